"""pgmq and the pgflow core into a database: all of it or nothing, once, whoever else is at it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.admin import Connection, limited, session
from pgflow_starter.postgres.setup.core_package import Migration
from pgflow_starter.postgres.setup.inventory import Inventory, check, strangers, take_inventory
from pgflow_starter.postgres.setup.pgmq_package import pgmq_sql

__all__ = ["Installed", "Inventory", "check", "install"]

# Any number that nobody else takes: "pgflow" in ASCII.
_LOCK = 0x7067666C6F77

_DENIED = "connect as the database's owner, or as a role with CREATE on the database"
_EXTENSION = re.compile(r'^\s*create\s+extension\s+if\s+not\s+exists\s+"?(\w+)"?[^;]*;', re.IGNORECASE | re.MULTILINE)

# Functions that were given no path of their own look into their caller's, where others may plant look-alikes.
_PATHLESS = """
select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = %s and p.prokind = 'f'
  and not exists (select from unnest(p.proconfig) setting where starts_with(setting, 'search_path='))
"""
# Functions that do what they do with their owner's rights.
_DEFINERS = """
select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = %s and p.prokind = 'f' and p.prosecdef
"""
# Names from the catalog, quoted and qualified there.
_FIX_PATH = "alter function {} set search_path to pg_catalog, pg_temp"
_CLOSE = "revoke execute on function {} from public"


@dataclass(frozen=True)
class Installed:
    """What `install` did: its steps as sentences (none: everything was there), and what the database has now."""

    steps: tuple[str, ...]
    inventory: Inventory


def install(conninfo: str, *, accept: bool = False, progress: Callable[[str], None] = lambda line: None) -> Installed:
    """Bring pgmq and the pgflow core into a database, in one transaction; what is there already stays as it is.

    The server's own extension pgmq is taken where it has one, else the SQL of the Python package pgmq: only what has
    been tried here, unless `accept`. Of the core it is always the published file of one version.

    `progress` gets a sentence per step, in the caller's thread, once it is committed. Takes 2 minutes at most for the
    download, where the cache has none, and 1 minute for each statement, waiting for another installation included.
    Raises SetupError, MissingExtraError, DatabaseError, and then nothing was changed. Safe from any thread and process,
    many at once.
    """
    migrations: tuple[Migration, ...] = ()
    with session(conninfo, denied=_DENIED) as connection:
        with limited(connection, 60):
            found = take_inventory(connection)
        if found.pgflow == "missing":
            # Fetched before the transaction: a download must not hold a lock that others wait for.
            progress(f"fetching the pgflow core {core_package.VERSION}, unless it is in the cache")
            migrations = core_package.migrations()
        # Whatever the role's default: what another installation commits while we wait has to be seen.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        with limited(connection, 60):
            _lock(connection)
            steps = _fill_in(connection, migrations, accept)
            if steps:
                _refuse_strangers(connection)  # whose schema came in between
            found = take_inventory(connection)
    for step in steps or ("pgmq and the pgflow core are there already: nothing was changed",):
        progress(step)
    return Installed(tuple(steps), found)


def _lock(connection: Connection) -> None:
    """Wait for any other installation into this database; ours ends with the transaction."""
    try:
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
    except psycopg.errors.QueryCanceled:
        raise DatabaseError(
            "another installation has been at work in this database for a minute: try again when it has ended",
            sqlstate="57014",
            error_type="QueryCanceled",
        ) from None


def _fill_in(connection: Connection, migrations: tuple[Migration, ...], accept: bool) -> list[str]:
    """Install what is missing, looked up again now that nobody else installs; the steps taken."""
    steps: list[str] = []
    found = take_inventory(connection)
    if found.pgmq == "missing" or found.pgflow != "present":
        _refuse_strangers(connection)
    if found.pgflow == "partial":
        raise SetupError(found.pgflow_problem)
    if found.pgmq == "missing":
        steps.append(_install_pgmq(connection, accept))
        found = take_inventory(connection)
    if found.pgflow == "present":
        return steps
    if found.pgmq_problem:
        raise SetupError(found.pgmq_problem)
    if _create_realtime_stub(connection):
        steps.append("created realtime.send as a stub: pgflow calls it for every event, plain PostgreSQL has none")
    _apply(connection, migrations or core_package.migrations())
    _harden(connection, "pgflow")
    return [*steps, f"installed the pgflow core {core_package.VERSION}"]


def _refuse_strangers(connection: Connection) -> None:
    """Who owns a schema can have what is laid down there do something else, with the rights of whoever calls it."""
    found = strangers(connection)
    if found:
        raise SetupError(f"nothing was changed: {'; '.join(found)}")


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
    _harden(connection, "pgmq")
    return f"installed pgmq {version} as plain SQL"


def _create_realtime_stub(connection: Connection) -> bool:
    row = connection.execute("select to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null").fetchone()
    if row is None or not row[0]:
        return False
    connection.execute("create schema if not exists realtime")
    connection.execute(
        "create function realtime.send(payload jsonb, event text, topic text, private boolean default true) "
        "returns void language sql as ''"
    )
    return True


def _apply(connection: Connection, migrations: tuple[Migration, ...]) -> None:
    rows = connection.execute("select name from pg_catalog.pg_available_extensions").fetchall()
    # pgmq is seen to by now: its statement would fail where it is plain SQL, and where this role may not create it.
    available = {str(row[0]) for row in rows} - {"pgmq"}
    for migration in migrations:
        script = _EXTENSION.sub(lambda found: found[0] if found[1] in available else "", migration.sql)
        try:
            connection.execute(script)
        except psycopg.Error as error:
            raise DatabaseError(
                f"migration {migration.name} failed, nothing was changed: {error.diag.message_primary or error}",
                sqlstate=error.sqlstate,
                error_type=type(error).__name__,
                connection_lost=connection.broken,
            ) from None


def _harden(connection: Connection, schema: str) -> None:
    """Have the schema's functions find by bare names what is PostgreSQL's, and only grantees call security definers.

    Inside of a `limited` transaction, right after the installation: what others have laid down is theirs.
    """
    for find, change in ((_PATHLESS, _FIX_PATH), (_DEFINERS, _CLOSE)):
        rows = connection.execute(find, [schema]).fetchall()
        if rows:
            changes = [sql.SQL(change).format(sql.SQL(row[0])) for row in rows]
            connection.execute(sql.SQL("; ").join(changes))
