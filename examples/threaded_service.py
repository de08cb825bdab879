"""A plain threaded service with pgflow inside: two threads enqueue, a signal ends it, nothing is lost.

    python examples/threaded_service.py [DSN]

Without a DSN it runs on an embedded PostgreSQL. End it with Ctrl-C or SIGTERM.
"""

import itertools
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pgflow_starter as pgflow
from pgflow_starter.testing import EmbeddedPostgres, install

ENDING = {signal.SIGTERM, signal.SIGINT}

logger = logging.getLogger("service")


@pgflow.job("make_thumbnail", max_attempts=5, base_delay=1)
def make_thumbnail(photo, ctx):
    ctx.logger.info("thumbnail of %s, attempt %d", photo["file"], ctx.attempt)
    return {"thumbnail": photo["file"].replace(".jpg", ".small.jpg")}


def camera(name: str, client: pgflow.PgflowClient, stopping: threading.Event) -> None:
    """What the service does anyway, on threads of its own. The client may be shared, and works before ready."""
    for number in itertools.count(1):
        try:
            client.enqueue(make_thumbnail, {"file": f"{name}-{number}.jpg"})
        except pgflow.PgflowError as error:
            logger.warning("%s-%d.jpg is lost: %s", name, number, error)
        if stopping.wait(0.2):
            return


def main(dsn: str) -> None:
    # Threads inherit the mask: the signals stay pending until the main thread asks for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    with pgflow.start(dsn, jobs=[make_thumbnail], signal_strategy="notify") as starter:
        stopping = threading.Event()
        cameras = [threading.Thread(target=camera, args=(name, starter.client, stopping)) for name in ("front", "back")]
        for thread in cameras:
            thread.start()

        number = signal.sigwait(ENDING)

        logger.info("%s: the threads first, then the starter", signal.Signals(number).name)
        stopping.set()
        for thread in cameras:
            thread.join()
    logger.info("stopped")


@contextmanager
def database() -> Iterator[str]:
    if len(sys.argv) > 1:
        yield sys.argv[1]
        return
    with EmbeddedPostgres() as server:
        install(server.conninfo())
        yield server.conninfo()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(threadName)s: %(message)s")
    with database() as given:
        main(given)
