"""Asking a starter through its proxy: every call is a pykka future, and many of them are asked at once.

    python examples/proxies.py [DSN]

Without a DSN it runs on an embedded PostgreSQL.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pykka

import pgflow_starter as pgflow
from pgflow_starter.testing import EmbeddedPostgres, install

greeting = pgflow.Flow("greeting")


@greeting.step()
def greet(name, ctx):
    return f"hello {name}"


@pgflow.job("count_letters")
def count_letters(text, ctx):
    return len(text)


def main(dsn: str) -> None:
    with pgflow.start(dsn, flows=[greeting, "no.such:flow"], jobs=[count_letters]) as starter:
        proxy = starter.proxy()

        # The wait takes place in get(), on this thread: no actor waits for another.
        proxy.await_ready(timeout=30).get()

        # Asked all at once, answered one after the other by the StarterActor.
        modules = [greeting, count_letters, "no.such:flow"]
        for state in pykka.get_all([proxy.module_status(module) for module in modules], timeout=5):
            print(f"{state.module}: {state.status}" + (f", {state.last_error.reason}" if state.last_error else ""))

        # A future's answer can be worked on before it is there.
        names = proxy.status().map(lambda status: [m.module for m in status.modules if m.last_error])
        print("failed:", *names.get(timeout=5))

        # The actor behind the proxy dies; its supervisor starts another, and the proxy finds it.
        for actor in pykka.ActorRegistry.get_by_class(pgflow.StarterActor):
            actor.stop()
        print("healthy after a restart:", proxy.healthy().get(timeout=5))
        print("restarts:", {c.id: c.restarts for c in proxy.which_children().get(timeout=5)}["starter"])

        print(starter.client.start_flow(greeting, "ada").wait(timeout=10).result)
        proxy.stop().get()


@contextmanager
def database() -> Iterator[str]:
    if len(sys.argv) > 1:
        yield sys.argv[1]
        return
    with EmbeddedPostgres() as server:
        install(server.conninfo())
        yield server.conninfo()


if __name__ == "__main__":
    with database() as given:
        main(given)
