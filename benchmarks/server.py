"""The server that is measured on, and a fresh database for each repetition."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import psutil
import psycopg

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install

FreshDatabase = Callable[[], AbstractContextManager[str]]


@contextmanager
def databases() -> Iterator[FreshDatabase]:
    """A server with PostgreSQL's own settings (fsync on), and a function that makes installed databases on it."""
    numbers = itertools.count(1)
    with EmbeddedPostgres() as server, psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("create database template_of_bench")
        install(server.conninfo("template_of_bench"))

        @contextmanager
        def fresh() -> Iterator[str]:
            name = f"bench{next(numbers)}"
            admin.execute(f"create database {name} template template_of_bench strategy file_copy")
            admin.execute("checkpoint")
            try:
                yield server.conninfo(name)
            finally:
                admin.execute(f"drop database {name} with (force)")

        yield fresh


def postmaster(conninfo: str) -> psutil.Process:
    """The server's first process, the parent of all others."""
    with psycopg.connect(conninfo) as conn:
        parent = psutil.Process(conn.info.backend_pid).parent()
    assert parent is not None
    return parent


def processor_time(server: psutil.Process) -> float:
    """Seconds of processor time that all processes of the server have taken, those that have ended included."""
    total = 0.0
    for process in [server, *server.children()]:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total
