"""Row level security: which tables it guards against a role, and which commands it refuses there for certain."""

from __future__ import annotations

from collections.abc import Iterable
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
select g.schema || '.'::text || g.name, {REFUSED}
from who, unnest(%(schemas)s::text[], %(names)s::text[]) as g (schema, name)
join pg_catalog.pg_namespace n on n.nspname = g.schema::name
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = g.name::name
where c.relrowsecurity
  and not (%(unless_owners)s and exists (
      select from pg_catalog.pg_proc f where f.proname = 'start_tasks' and f.prosecdef
      and f.pronamespace = pg_catalog.to_regnamespace('pgflow')::oid))
order by 1
"""  # noqa: S608 - constants


def guarded(conn: Connection, tables: Iterable[str], *, unless_owners: bool = False) -> dict[str, set[str]]:
    """Those of these tables where it is in force for who asks, and the commands that it refuses there.

    `unless_owners`: none of them where start_tasks has its owner's rights; then it is the owner's business. Raises
    psycopg's errors.
    """
    named = [table.split(".") for table in tables]
    given = {"role": None, "schemas": [n[0] for n in named], "names": [n[1] for n in named]}
    rows: list[Any] = conn.execute(_GUARDED, {**given, "unless_owners": unless_owners}).fetchall()
    return {table: set(refused) for table, refused in rows if refused is not None}
