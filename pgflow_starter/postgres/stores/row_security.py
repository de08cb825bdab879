"""Row level security: which tables it guards against a role, and which commands it refuses there for certain."""

from __future__ import annotations

from typing import Any

from pgflow_starter.postgres.connections.connection import Connection

WHO = """
who as materialized (
    select oid, rolsuper or rolbypassrls as sees_all from pg_catalog.pg_roles
    where rolname::text = coalesce(%(role)s::text, current_user::text)
)
"""
"""A role (null: who asks), for `REFUSED`."""

REFUSED = """
case when c.relrowsecurity and not who.sees_all
          and (c.relforcerowsecurity or not pg_catalog.pg_has_role(who.oid, c.relowner, 'USAGE'))
     then array(
         select k.command from (values ('SELECT', 'r'), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd'))
             as k (command, letter)
         where not exists (
             select from pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) as o (oid)
             where p.polrelid = c.oid and p.polpermissive and p.polcmd::text in ('*', k.letter)
               and case o.oid when 0::oid then true else pg_catalog.pg_has_role(who.oid, o.oid, 'USAGE') end)
     ) end
"""
"""Of a table `c`: the commands for which no policy is for `who`; null where row level security is not in force."""

_GUARDED = f"""
with {WHO}
select n.nspname::text || '.' || c.relname::text, {REFUSED}
from who, pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('pgflow', 'pgmq') and c.relrowsecurity
  and not (%(unless_owners)s and exists (
      select from pg_catalog.pg_proc f where f.proname = 'start_tasks' and f.prosecdef
      and f.pronamespace = pg_catalog.to_regnamespace('pgflow')::oid))
order by 1
"""  # noqa: S608 - constants


def guarded(conn: Connection, *, unless_owners: bool = False) -> dict[str, set[str]]:
    """The tables where it is in force for who asks, and the commands that it refuses there. Raises psycopg's errors.

    `unless_owners`: none of them where start_tasks has its owner's rights; then it is the owner's business.
    """
    rows: list[Any] = conn.execute(_GUARDED, {"role": None, "unless_owners": unless_owners}).fetchall()
    return {table: set(refused) for table, refused in rows if refused is not None}
