"""What our own installations have beside what the SQL says: functions that look into nobody's path, and lend nobody
their owner's rights."""

from __future__ import annotations

from psycopg import sql

from pgflow_starter.postgres.setup.admin import Connection

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


def harden(connection: Connection, schema: str) -> None:
    """Have the schema's functions find by bare names what is PostgreSQL's, and only grantees call security definers.

    Inside of a `limited` transaction, right after the installation: what others have laid down is theirs.
    """
    for find, change in ((_PATHLESS, _FIX_PATH), (_DEFINERS, _CLOSE)):
        rows = connection.execute(find, [schema]).fetchall()
        if rows:
            changes = [sql.SQL(change).format(sql.SQL(row[0])) for row in rows]
            connection.execute(sql.SQL("; ").join(changes))


def is_hardened(connection: Connection, schema: str) -> bool:
    """Whether all of its functions have a path of their own, as only we see to."""
    return connection.execute(_PATHLESS, [schema]).fetchone() is None
