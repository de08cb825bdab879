"""`FlowQueues`: the queues that go with a stored flow, and those that others have, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import sql

from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores import rights

# Those that there are, as their tables are named: the flow's, or each step's where they have their own.
_QUEUES = """
select distinct pg_catalog.lower(q.name) from (
    select coalesce(pg_catalog.to_jsonb(s) ->> 'queue_name'::text, s.flow_slug)
    from pgflow.steps s where s.flow_slug = %(slug)s
    union
    select f.flow_slug from pgflow.flows f
    where f.flow_slug = %(slug)s and coalesce(pg_catalog.to_jsonb(f) ->> 'queue_mode'::text, 'flow') = 'flow'
) as q (name)
where pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I', 'q_' || pg_catalog.lower(q.name))) is not null
order by 1
"""
# Only a table's owner, or the schema's, may drop it.
_FOREIGN = """
select pg_catalog.format('pgmq.%%I', c.relname), o.rolname::text, pg_catalog.quote_ident(o.rolname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_roles o on o.oid = c.relowner
where n.nspname = 'pgmq' and c.relname = any(%s::name[])
  and not pg_catalog.pg_has_role(c.relowner, 'USAGE') and not pg_catalog.pg_has_role(n.nspowner, 'USAGE')
order by 1 limit 1
"""
_THERE = """
select t.name from pg_catalog.unnest(%s::text[]) as t (name)
where pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I', t.name)) is not null
"""
# pgmq knows no capitals in a table's name, pgflow does in a slug.
_NAMESAKES = """
select f.flow_slug from pgflow.flows f
where f.flow_slug <> %(slug)s and pg_catalog.lower(f.flow_slug) = pg_catalog.lower(%(slug)s)
order by 1
"""
# Where another flow has the queue, too. A queue that was dropped and made anew has numbered its messages anew.
_OURS_OF_SHARED = """
where msg_id in (select t.message_id from pgflow.step_tasks t where t.flow_slug = {slug})
  and message ->> 'flow_slug'::text = {slug}
"""


class FlowQueues(NamedTuple):
    """Those that go with a flow, and those that stay, for others whose slugs differ by capitals alone have them."""

    own: list[str]
    shared: list[str]
    namesakes: list[str]


def flow_queues(conn: Connection, slug: str) -> FlowQueues:
    """Raises MissingRightsError where one is another role's, psycopg's errors."""
    namesakes = [str(row[0]) for row in conn.execute(_NAMESAKES, {"slug": slug}).fetchall()]
    queues, *others = (
        [str(row[0]) for row in conn.execute(_QUEUES, {"slug": each}).fetchall()] for each in (slug, *namesakes)
    )
    taken = {queue for other in others for queue in other}
    foreign: Any = conn.execute(_FOREIGN, [[f"{prefix}_{queue}" for prefix in "qa" for queue in queues]]).fetchone()
    if foreign is not None:
        table, owner, quoted = foreign
        role = rights.role_of(conn)
        assert role is not None
        raise MissingRightsError(
            f"table {table} belongs to role {owner!r}, and only its owner can drop it: do this as that role, or"
            f" first GRANT {quoted} TO {role[1]}"
        )
    return FlowQueues([q for q in queues if q not in taken], [q for q in queues if q in taken], namesakes)


def queue_tables(conn: Connection, prefixes: str, queues: Sequence[str]) -> list[str]:
    """Those that are there: somebody may have dropped an archive."""
    tables = [f"{prefix}_{queue}" for prefix in prefixes for queue in queues]
    return [str(row[0]) for row in conn.execute(_THERE, [tables]).fetchall()]


def ours_of_shared(slug: str) -> sql.Composed:
    """The condition of a flow's messages in a queue that others have, too."""
    return sql.SQL(_OURS_OF_SHARED).format(slug=sql.Literal(slug))
