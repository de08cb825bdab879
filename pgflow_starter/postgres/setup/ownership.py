"""Who owns the core: what is new in its schema belongs to the schema's owner, whoever has laid it down."""

from __future__ import annotations

from psycopg import sql

from pgflow_starter.postgres.setup.admin import Connection

# Sequences that belong to a column go with its table. `alter table` is for all relations that are none of types alone.
_MINE = """
select pg_catalog.format('routine %s', p.oid::regprocedure)
from pg_catalog.pg_proc p
where p.pronamespace = 'pgflow'::regnamespace and p.proowner = current_user::regrole
union all
select pg_catalog.format('table %s', c.oid::regclass)
from pg_catalog.pg_class c
where c.relnamespace = 'pgflow'::regnamespace and c.relowner = current_user::regrole
  and c.relkind in ('r', 'p', 'v', 'm', 'S')
  and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass
                  and d.objid = c.oid and d.deptype in ('a', 'i') and c.relkind = 'S')
union all
select pg_catalog.format('type %s', t.oid::regtype)
from pg_catalog.pg_type t left join pg_catalog.pg_class c on c.oid = t.typrelid
where t.typnamespace = 'pgflow'::regnamespace and t.typowner = current_user::regrole
  and (t.typtype in ('e', 'd', 'r') or c.relkind = 'c')
"""
_OWNER = """
select o.rolname::text from pg_catalog.pg_namespace n join pg_catalog.pg_roles o on o.oid = n.nspowner
where n.nspname = 'pgflow' and o.rolname <> current_user
"""


def mine(connection: Connection) -> frozenset[str]:
    """What of the core belongs to this role, by its kind and name. Raises psycopg's errors."""
    return frozenset(row[0] for row in connection.execute(_MINE).fetchall())


def hand_over(connection: Connection, before: frozenset[str]) -> None:
    """Give the owner of the schema what belongs to this role and did not `before`.

    Else the owner could not upgrade the next time, and what a superuser has laid down would run with a superuser's
    rights. Raises psycopg's errors.
    """
    owner = connection.execute(_OWNER).fetchone()
    if owner is None:
        return
    give = sql.SQL("alter {} owner to {}")
    for what in sorted(mine(connection) - before):
        connection.execute(give.format(sql.SQL(what), sql.Identifier(owner[0])))
