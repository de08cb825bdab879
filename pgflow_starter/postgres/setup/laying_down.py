"""What installing and upgrading have in common: one at a time, the core's SQL carried out, and a stub for Realtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.adapting import Adapted
from pgflow_starter.postgres.setup.admin import Connection
from pgflow_starter.postgres.setup.inventory import strangers
from pgflow_starter.postgres.setup.migrations import Source, from_folder

# Any number that nobody else takes: "pgflow" in ASCII.
_LOCK = 0x7067666C6F77

# What this transaction has set, of which a migration may set another, for longer than the transaction even.
_OURS = """
select s.name, pg_catalog.current_setting(s.name) from pg_catalog.pg_settings s
where s.source = 'session' and not pg_catalog.starts_with(s.name, 'transaction_')
"""
_FORGET = "reset session authorization; reset role; reset all"
_SET = "select pg_catalog.set_config(%s::text, %s::text, true)"

STUB = "realtime.send as a stub: pgflow calls it for every event, plain PostgreSQL has none"


def source(version: str | None, folder: Path | None) -> Source:
    """The migrations of that version, or in that folder. Takes 4 minutes at most for a download. Raises SetupError."""
    if version is not None and folder is not None:
        raise SetupError("a version of the core or a folder with its migrations, not both")
    if folder is not None:
        return from_folder(folder)
    return core_package.migrations() if version is None else core_package.migrations(version)


def lock(connection: Connection) -> None:
    """Wait for any other installation into this database; ours ends with the transaction. Raises DatabaseError."""
    try:
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
    except psycopg.errors.QueryCanceled:
        raise DatabaseError(
            "another installation has been at work in this database for a minute: try again when it has ended",
            sqlstate="57014",
            error_type="QueryCanceled",
        ) from None


def refuse_strangers(connection: Connection) -> None:
    """Who owns a schema can have what is laid down there do something else, with the rights of whoever calls it."""
    found = strangers(connection)
    if found:
        raise SetupError(f"nothing was changed: {'; '.join(found)}")


def lacks_realtime(connection: Connection) -> bool:
    """Whether there is no `realtime.send`, neither Supabase's nor a stub."""
    row = connection.execute("select to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null").fetchone()
    return row == (True,)


def create_realtime_stub(connection: Connection) -> None:
    """One that does nothing, where it is lacking."""
    connection.execute("create schema if not exists realtime")
    connection.execute(
        "create function realtime.send(payload jsonb, event text, topic text, private boolean default true) "
        "returns void language sql as ''"
    )


def apply(connection: Connection, migrations: Sequence[Adapted]) -> None:
    """Carry them out in the open transaction. Raises DatabaseError naming the one that failed.

    Each begins with the settings and the role that the first one had, and so does what comes after the last, whatever
    they set: psql and Supabase's own program have a session for each.
    """
    # Bodies name what is looked for when they are called, at Supabase.
    connection.execute("set local check_function_bodies to off")
    settings = connection.execute(_OURS).fetchall()
    for adapted in migrations:
        try:
            connection.execute(adapted.script)
            connection.execute(_FORGET)
            connection.cursor().executemany(_SET, settings)
        except psycopg.Error as error:
            name, reason = adapted.migration.name, error.diag.message_primary or error
            raise DatabaseError(
                f"migration {name} failed, nothing was changed: {reason}",
                sqlstate=error.sqlstate,
                error_type=type(error).__name__,
                connection_lost=connection.broken,
            ) from None
