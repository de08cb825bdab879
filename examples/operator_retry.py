"""An operator's thread asks for an attempt now, while the service waits for a database that is not there yet.

    python examples/operator_retry.py [DSN]

Without a DSN it runs on an embedded PostgreSQL that is down at first; with one, on a database as it is.
"""

import sys
import threading
from collections.abc import Callable

import pgflow_starter as pgflow
from pgflow_starter.testing import EmbeddedPostgres, install

AN_HOUR = 3600.0


@pgflow.job("backup")
def backup(what, ctx):
    return f"{what} is safe"


def operator(starter: pgflow.Starter, repair: Callable[[], None]) -> None:
    """A person at a console: looks, asks for an attempt, mends what was broken, asks again."""
    report(starter)
    starter.retry_now(backup)  # returns at once, and so does everything here, database or not
    report(starter)
    repair()
    starter.retry_now(backup)
    starter.retry_now("backup")  # a slug will do; calls in a row make one attempt, not many


def report(starter: pgflow.Starter) -> None:
    state = starter.module_status(backup)
    assert state is not None
    print(f"{state.module}: {state.status}, attempt {state.attempts}", end="")
    print(f", {state.last_error.reason}" if state.last_error else "", flush=True)


def main(dsn: str, repair: Callable[[], None]) -> None:
    # Left to itself, this service would try again in an hour.
    patient = pgflow.Backoff(base=AN_HOUR, maximum=AN_HOUR)
    with pgflow.start(dsn, jobs=[backup], backoff=patient) as starter:
        try:
            starter.await_ready(timeout=2)
        except pgflow.NotReadyError as error:
            print(error)

        console = threading.Thread(target=operator, args=(starter, repair))
        console.start()
        console.join()

        starter.await_ready(timeout=30)
        report(starter)
        print(starter.client.enqueue(backup, "everything").wait(timeout=10).result)


def main_on_embedded() -> None:
    with EmbeddedPostgres() as server:
        install(server.conninfo())
        server.stop()
        main(server.conninfo(), repair=server.start)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], repair=lambda: None)
    else:
        main_on_embedded()
