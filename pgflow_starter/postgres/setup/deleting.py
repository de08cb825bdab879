"""A stored flow out of the database, with its runs, queues and archives; and before that, what all it has."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql

from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.setup.admin import Connection
from pgflow_starter.postgres.setup.cascades import dependents
from pgflow_starter.postgres.setup.changing import on_stored
from pgflow_starter.postgres.stores import pgmq, rights
from pgflow_starter.postgres.stores.features import Catalog
from pgflow_starter.postgres.stores.stored_flow import NEIGHBOUR_HEARD, StoredFlow
from pgflow_starter.postgres.stores.worker_rows import OURS, STOPPED

OURS_HEARD = 60
"""Seconds since its last heartbeat after which a worker of ours, which sends one every few seconds, is gone."""

# Those that there are, as their tables are named: the flow's, or each step's where they have their own.
_QUEUES = """
select distinct pg_catalog.lower(q.name) from (
    select coalesce(pg_catalog.to_jsonb(s) ->> 'queue_name', s.flow_slug)
    from pgflow.steps s where s.flow_slug = %(slug)s
    union
    select f.flow_slug from pgflow.flows f
    where f.flow_slug = %(slug)s and coalesce(pg_catalog.to_jsonb(f) ->> 'queue_mode', 'flow') = 'flow'
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
_RUNS = "select status, count(*) from pgflow.runs where flow_slug = %s group by status order by status"
_WORKERS = f"""
select w.worker_id, w.function_name, {OURS}, extract(epoch from now() - w.last_heartbeat_at)::float8
from pgflow.workers w
where w.queue_name = any(%(queues)s::text[]) and w.deprecated_at is null and not {STOPPED}
  and w.last_heartbeat_at > now() - case when {OURS} then interval '{OURS_HEARD} s'
                                         else interval '{NEIGHBOUR_HEARD} s' end
order by 4, 1
"""  # noqa: S608 - constants

# What others lock, in their order: who records an outcome has its run first, then, for steps that come next, the flow;
# who starts a run has the flow first; who claims has the queue first, then its tasks. So nobody waits in a circle, but
# for runs that come in between: for them we do not wait long enough to be part of one.
_LOCK_RUNS = "select run_id from pgflow.runs where flow_slug = %s order by run_id for update"
_LOCK_FLOW = "select from pgflow.flows where flow_slug = %s for update"
_HURRY = "set local lock_timeout = '200ms'"
_LOCK_QUEUE = "select pgmq.acquire_queue_lock(%s::text)"
_LOCK_TABLE = "lock table pgmq.{} in access exclusive mode"

_BY_CORE = "select pgflow.delete_flow_and_data(%s::text)"
# What that does, where the core is older; in the order of the foreign keys.
_DROP_QUEUE = "select pgmq.drop_queue(%s::text)"
_BY_HAND = (
    "delete from pgflow.step_tasks where flow_slug = %s",
    "delete from pgflow.step_states where flow_slug = %s",
    "delete from pgflow.runs where flow_slug = %s",
    "delete from pgflow.deps where flow_slug = %s",
    "delete from pgflow.steps where flow_slug = %s",
    "delete from pgflow.flows where flow_slug = %s",
)


# Where another flow has the queue, too. A queue that was dropped and made anew has numbered its messages anew.
_OURS_OF_SHARED = """
where msg_id in (select t.message_id from pgflow.step_tasks t where t.flow_slug = {slug})
  and message ->> 'flow_slug' = {slug}
"""
# A name in capitals is listed beside the other one, but where the core writes small letters for both.
_UNLIST = """
delete from pgmq.meta m where m.queue_name = %(slug)s and exists (
    select from pgmq.meta o
    where o.queue_name <> m.queue_name and pg_catalog.lower(o.queue_name) = pg_catalog.lower(m.queue_name))
"""


class LivingWorker(NamedTuple):
    """Of another runtime it is known by the name of its edge function. `heard`: seconds since its last heartbeat."""

    worker_id: UUID
    function_name: str
    ours: bool
    heard: float


class _Queues(NamedTuple):
    """Those that go with a flow, and those that stay, for others whose slugs differ by capitals alone have them."""

    own: list[str]
    shared: list[str]
    namesakes: list[str]


class Holdings(NamedTuple):
    """What a stored flow has: runs by status, messages in its queues and archives, who works on them, rows of other
    people's tables that go with it, and the flows that have its queues, too."""

    database: str
    steps: int
    runs: dict[str, int]
    queued: int
    archived: int
    workers: list[LivingWorker]
    dependents: dict[str, int | None]
    namesakes: list[str]

    @property
    def unfinished(self) -> int:
        """How many runs are neither completed nor failed."""
        return sum(count for status, count in self.runs.items() if status not in ("completed", "failed"))


def holdings(conninfo: str, slug: str) -> Holdings:
    """What would be deleted, and that this role may do it; changes nothing. Takes and raises as `on_stored`."""

    def found(connection: Connection, stored: StoredFlow) -> Holdings:
        queues = _queues(connection, slug)
        rows: list[Any] = connection.execute(_RUNS, [slug]).fetchall()
        workers = connection.execute(_WORKERS, {"queues": [*queues.own, slug]}).fetchall()
        return Holdings(
            database=connection.info.dbname,
            steps=len(stored.steps),
            runs=dict(rows),
            queued=_count(connection, "q", queues, slug),
            archived=_count(connection, "a", queues, slug),
            workers=[LivingWorker(*row) for row in workers],
            dependents=dependents(connection, slug),
            namesakes=queues.namesakes if queues.shared else [],
        )

    return on_stored(conninfo, slug, "delete", found, locked=False)


def delete_flow(conninfo: str, slug: str) -> int:
    """Delete the flow with its runs, queues and archives, whoever works on them; how many runs it were.

    By the core's own function where it has one. Of a queue that another flow has, too, its messages alone. Takes and
    raises as `on_stored`.
    """

    def deleted(connection: Connection, _: StoredFlow) -> int:
        there = Catalog(connection).functions
        queues, runs = _lock(connection, slug, there)
        statements = [_BY_CORE] if "pgflow.delete_flow_and_data" in there else [_DROP_QUEUE, *_BY_HAND]
        if queues.shared:
            _take_out(connection, slug, queues)
            statements = [*_BY_HAND]
        for statement in statements:
            connection.execute(statement, [slug])
        return runs

    return on_stored(conninfo, slug, "delete", deleted)


def _take_out(connection: Connection, slug: str, queues: _Queues) -> None:
    """Its messages out of the queues that stay, and the queues that do not."""
    for table in _tables(connection, "qa", queues.shared):
        connection.execute(sql.SQL("delete from pgmq.{} {}").format(sql.Identifier(table), _ours_of_shared(slug)))
    for queue in queues.own:
        connection.execute(_DROP_QUEUE, [queue])
    connection.execute(_UNLIST, {"slug": slug})


def _lock(connection: Connection, slug: str, functions: set[str]) -> tuple[_Queues, int]:
    """All that is to go; the queues, and the number of runs."""
    connection.execute(_LOCK_RUNS, [slug])
    connection.execute(_LOCK_FLOW, [slug])
    connection.execute(_HURRY)
    runs = connection.execute(_LOCK_RUNS, [slug]).rowcount
    connection.execute(pgmq.LIMIT_LOCKS)
    queues = _queues(connection, slug)
    names = sorted(queues.own + queues.shared)
    for queue in names if "pgmq.acquire_queue_lock" in functions else ():
        connection.execute(_LOCK_QUEUE, [queue])
    for queue in names:
        connection.execute(sql.SQL(_LOCK_TABLE).format(sql.Identifier(f"q_{queue}")))
    return queues, runs


def _queues(connection: Connection, slug: str) -> _Queues:
    """Raises MissingRightsError where one is another role's."""
    namesakes = [str(row[0]) for row in connection.execute(_NAMESAKES, {"slug": slug}).fetchall()]
    queues, *others = (
        [str(row[0]) for row in connection.execute(_QUEUES, {"slug": each}).fetchall()] for each in (slug, *namesakes)
    )
    taken = {queue for other in others for queue in other}
    tables = [f"{prefix}_{queue}" for prefix in "qa" for queue in queues]
    foreign: Any = connection.execute(_FOREIGN, [tables]).fetchone()
    if foreign is not None:
        table, owner, quoted = foreign
        role = rights.role_of(connection)
        assert role is not None
        raise MissingRightsError(
            f"table {table} belongs to role {owner!r}, and only its owner can drop it: do this as that role, or"
            f" first GRANT {quoted} TO {role[1]}"
        )
    return _Queues([q for q in queues if q not in taken], [q for q in queues if q in taken], namesakes)


def _count(connection: Connection, prefix: str, queues: _Queues, slug: str) -> int:
    """The flow's messages in its queues, or in their archives."""
    counts = [
        sql.SQL("select count(*) from pgmq.{} {}").format(sql.Identifier(table), condition)
        for names, condition in ((queues.own, sql.SQL("")), (queues.shared, _ours_of_shared(slug)))
        for table in _tables(connection, prefix, names)
    ]
    rows: list[Any] = [connection.execute(count).fetchone() for count in counts]
    return sum(row[0] for row in rows)


def _tables(connection: Connection, prefixes: str, queues: list[str]) -> list[str]:
    """Those that are there: somebody may have dropped an archive."""
    tables = [f"{prefix}_{queue}" for prefix in prefixes for queue in queues]
    return [str(row[0]) for row in connection.execute(_THERE, [tables]).fetchall()]


def _ours_of_shared(slug: str) -> sql.Composed:
    return sql.SQL(_OURS_OF_SHARED).format(slug=sql.Literal(slug))
