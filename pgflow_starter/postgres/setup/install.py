"""pgmq and the pgflow core into a database: all of it or nothing, once, whoever else is at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup import applied, book, core_package
from pgflow_starter.postgres.setup.adapting import adapt, look_around
from pgflow_starter.postgres.setup.admin import Connection, limited, session
from pgflow_starter.postgres.setup.hardening import harden
from pgflow_starter.postgres.setup.inventory import Inventory, check, take_inventory
from pgflow_starter.postgres.setup.laying_down import (
    STUB,
    apply,
    create_realtime_stub,
    lacks_realtime,
    lock,
    refuse_strangers,
    source,
)
from pgflow_starter.postgres.setup.migrations import Source
from pgflow_starter.postgres.setup.pgmq_package import pgmq_sql
from pgflow_starter.postgres.setup.runs_index import index_runs

__all__ = ["Installed", "Inventory", "check", "install"]

_DENIED = "connect as the database's owner, or as a role with CREATE on the database"


@dataclass(frozen=True)
class Installed:
    """What `install` did: its steps as sentences (none: everything was there), and what the database has now."""

    steps: tuple[str, ...]
    inventory: Inventory


def install(
    conninfo: str,
    *,
    accept: bool = False,
    core_version: str | None = None,
    core_dir: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Installed:
    """Bring pgmq and the pgflow core into a database, in one transaction; what is there already stays as it is.

    The server's own extension pgmq is taken where it has one, else the SQL of the Python package pgmq: only what has
    been tried here, unless `accept`. Of the core it is the published file of one version, 0.8.1 unless another is
    named, or the migrations of pgflow's in a folder. Where Supabase keeps book, those of a folder are written there.

    `progress` gets a sentence per step, in the caller's thread, once it is committed. Takes 4 minutes at most for the
    download, where the cache has none, and 1 minute for each statement, waiting for another installation included.
    Raises SetupError, MissingExtraError, DatabaseError, and then nothing was changed. Safe from any thread and process,
    many at once.
    """
    core: Source | None = source(core_version, core_dir) if core_dir else None
    with session(conninfo, denied=_DENIED) as connection:
        with limited(connection, 60):
            found = take_inventory(connection)
        if core is None and (core_version or found.pgflow == "missing"):
            # Fetched before the transaction: a download must not hold a lock that others wait for.
            progress(f"fetching the pgflow core {core_version or core_package.VERSION}, unless it is in the cache")
            core = source(core_version, core_dir)
        # Whatever the role's default: what another installation commits while we wait has to be seen.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        with limited(connection, 60):
            lock(connection)
            steps = _fill_in(connection, core, accept)
            if steps:
                refuse_strangers(connection)  # whose schema came in between
            found = take_inventory(connection)
            if core and not steps and (core_version or core_dir) and found.last_migration != core.last:
                raise SetupError(
                    "nothing was changed: a pgflow core is there already, and not this one (its last migration is"
                    f" {found.last_migration or 'not known'}); `pgflow-starter db upgrade` brings it to a newer one"
                )
    for step in steps or ("pgmq and the pgflow core are there already: nothing was changed",):
        progress(step)
    return Installed(tuple(steps), found)


def _fill_in(connection: Connection, core: Source | None, accept: bool) -> list[str]:
    """Install what is missing, looked up again now that nobody else installs; the steps taken."""
    steps: list[str] = []
    found = take_inventory(connection)
    if found.pgmq == "missing" or found.pgflow != "present":
        refuse_strangers(connection)
    if found.pgflow == "partial":
        raise SetupError(found.pgflow_problem)
    if core and found.pgflow == "missing" and (hindrance := book.hindrance(connection, core)):
        raise SetupError(f"nothing was changed: {hindrance}")
    if found.pgmq == "missing":
        steps.append(_install_pgmq(connection, accept))
        found = take_inventory(connection)
    if found.pgflow == "present":
        return steps
    if found.pgmq_problem:
        raise SetupError(found.pgmq_problem)
    if lacks_realtime(connection):
        create_realtime_stub(connection)
        steps.append(f"created {STUB}")
    core = core or core_package.migrations()
    there = look_around(connection)
    migrations = [adapt(migration, there) for migration in core.migrations]
    apply(connection, migrations)
    harden(connection, "pgflow")
    index_runs(connection)
    applied.note(connection, core.last)
    entries = book.entries(connection, core)
    book.write(connection, entries.migrations)
    steps += [f"{m.migration.name}: {told}" for m in migrations for told in m.told]
    steps += entries.lines("wrote")
    return [*steps, f"installed {core.told}"]


def _install_pgmq(connection: Connection, accept: bool) -> str:
    available = connection.execute("select 1 from pg_catalog.pg_available_extensions where name = 'pgmq'").fetchone()
    if available:
        try:
            with connection.transaction():
                connection.execute("create extension pgmq")
            return "installed pgmq as the server's extension"
        except psycopg.errors.InsufficientPrivilege:
            # Available, but not to this role: the same functions as plain SQL need no more than CREATE.
            pass
    version, script = pgmq_sql(accept=accept)
    connection.execute(script)
    harden(connection, "pgmq")
    return f"installed pgmq {version} as plain SQL"
