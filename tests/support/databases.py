"""Databases for single tests, on the server that the session shares."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres

FAST = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "max_wal_size": "128MB",
}
"""Fast, and still no commit is lost when the server is killed (only when the machine is)."""

MEMORY = Path("/dev/shm")
ENOUGH = 2 * 1024**3


def memory_folder() -> Path | None:
    """A folder in memory with room for a server: copying a template takes 10 ms there, 30 to 300 ms on a disk."""
    try:
        return MEMORY if shutil.disk_usage(MEMORY).free >= ENOUGH else None
    except OSError:
        return None


_numbers = itertools.count(1)


@contextmanager
def fresh_database(server: EmbeddedPostgres, template: str = "template1") -> Iterator[str]:
    """The connection string of a new copy of a template database; dropped in the end, whoever is still connected."""
    name = f"t{next(_numbers)}"
    create = sql.SQL("create database {} template {} strategy file_copy")
    _execute(server, create.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield server.conninfo(name)
    finally:
        # A test may have left the server down.
        server.start()
        _execute(server, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _execute(server: EmbeddedPostgres, statement: sql.Composed) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(statement)
