"""Claiming: messages are read and their tasks started, and no message keeps the others from it.

Nearly always in one statement. Where somebody has locked a row, what is locked is passed over; where starting fails of
what a message's task holds, each is started by itself. What is left unstarted is looked at again after a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import Features
from pgflow_starter.postgres.stores.inputs import VERSION

VT_MARGIN = 2
"""Seconds that a message stays invisible beyond its task's timeout, as pgflow does it."""

SINGLY_VT = 10
"""Seconds that messages which are read first and started then are invisible, should nobody come to start them."""

HIDDEN_VT = 1
"""Seconds that messages are left alone whose tasks cannot be seen: that shall be found soon to be over."""

REFUSED_VT, LONGEST_REFUSED_VT = 2, 300
"""Seconds that messages whose task cannot be started are left alone at most: nearly all of a queue's, or a few."""

VEILED_VT = 20
"""Seconds that messages are left alone whose tasks may be there and cannot be seen."""

AT_ONCE = 10_000
"""Messages of nobody that are put aside in one statement."""

# Reads and claims in one statement, so that a crash cannot come between. The attempt is the count before plus one: the
# outer query does not see what start_tasks wrote, nor the row of a task that is newer than itself. One row at least,
# for what was read. The run's version only where the outer query sees the very task: else the run that it sees may be
# one that was deleted and started anew since. Seconds are subtracted, not times: before PostgreSQL 17 an infinite one
# fails that.
_CLAIM = """
with {known}messages as materialized (
    {messages}
), started as materialized (
    select t.* from {startable} m, pgflow.start_tasks(%(queue)s::text, m.ids, %(worker)s::uuid{claimed_of}) t
    where m.ids is not null
)
select m.n,
       case when m.n = 0 then (select extract(epoch from min(vt)) - extract(epoch from clock_timestamp())
                               from pgmq.{queue} where vt > clock_timestamp()) end,
       s.run_id is not null or {wired},
       case when row_number() over () = 1 then m.ids end,
       s.run_id, s.step_slug, s.task_index, s.msg_id, s.input::text, {flow_input},
       coalesce((select t.attempts_count from pgflow.step_tasks t
                 where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = s.task_index), 0) + 1,
       (m.headers -> s.msg_id::text)::text,
       (select {version} from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id
        where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = s.task_index
          and t.message_id = s.msg_id)
from messages m left join started s on true
"""
_READ = """
    select pg_catalog.array_agg(msg_id) as ids, count(*) as n, {headers} as headers
    from {read}
"""
# What we call gets arguments of its very types: a look-alike in its schema that took them as they come would be
# preferred.
_ALL_STEPS = "pgmq.read(%(queue)s::text, %(vt)s::integer, %(quantity)s::integer)"
_ALL_STEPS_CONDITIONAL = "pgmq.read(%(queue)s::text, %(vt)s::integer, %(quantity)s::integer, '{}'::jsonb)"
# As `pgmq.read`, without the messages whose tasks are of other steps than ours.
_KNOWN = """
free as materialized (
    select q.msg_id from pgmq.{queue} q
    where q.vt <= clock_timestamp()
      and not exists (select from pgflow.step_tasks t where t.message_id = q.msg_id
                      and t.flow_slug = %(queue)s{of_queue} and t.step_slug <> all(%(steps)s))
    order by q.msg_id limit %(quantity)s for update skip locked
), known as (
    update pgmq.{queue} q
    set vt = clock_timestamp() + pg_catalog.make_interval(secs => %(vt)s), read_ct = q.read_ct + 1
    from free where q.msg_id = free.msg_id
    returning q.*
), """
_THIS_ONE = "select array[%(message)s::bigint] as ids, 1::bigint as n, %(headers)s::jsonb as headers"
_HEADERS = "pg_catalog.jsonb_object_agg(msg_id, headers) filter (where headers is not null)"
_ALL = "messages"
# Whose task nobody has locked.
_UNLOCKED = """(
    select pg_catalog.array_agg(message_id) as ids
    from (select t.message_id from pgflow.step_tasks t
          where t.flow_slug = %(queue)s{of_queue}
            and t.message_id = any(array(select pg_catalog.unnest(ids) from messages))
          for update skip locked) free
)"""
_READ_ONLY = """
with {known}messages as (select msg_id, {headers} as headers from {read}) select msg_id, headers from messages
"""
# Whether this is the schema that the worker registered in. Fails as the claim does where there is none.
WIRED = """
exists (select from pgflow.workers where worker_id = {worker})
and exists (select from pgflow.flows where flow_slug = {queue})
and exists (select from pgmq.meta where queue_name::text = {queue})
"""
IS_WIRED = f"select {WIRED.format(worker='%(worker)s', queue='%(queue)s')}"
# A task that is under way somewhere has its message left to the vt. One that is queued in a run that goes on was locked
# and comes soon again; or its clock is ahead of ours, and it comes when it is time; or it was refused, and comes more
# rarely each time. All else is nobody's, and looked at ever more rarely.
_PUT_ASIDE = """
with seen as materialized (
    select q.msg_id, q.read_ct, t.queued, t.started, t.ahead
    from pgmq.{queue} q, lateral (
        select coalesce(bool_or(t.status = 'queued'), false) as queued,
               coalesce(bool_or(t.status = 'started'), false) as started,
               extract(epoch from max(t.queued_at)) - extract(epoch from clock_timestamp()) as ahead
        from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
        where t.message_id = q.msg_id and t.flow_slug = %(queue)s{of_queue}
    ) t
    where q.msg_id = any(%(ids)s)
), put as (
    update pgmq.{queue} q
    set vt = clock_timestamp() + pg_catalog.make_interval(secs => case
        when s.ahead > 0.0 then least(s.ahead + 0.1, 60)
        when q.msg_id = any(%(refused)s)
            then least(5::float8 * pg_catalog.power(2, least(s.read_ct, 10) - 1), %(longest)s::float8)
        when s.queued then least(pg_catalog.power(2, least(s.read_ct, 10) - 1), 10)
        else least(%(vt)s::float8 * pg_catalog.power(2, least(s.read_ct, 10) - 1), 21600) end)
    from seen s where q.msg_id = s.msg_id and not s.started
    returning s.queued and not q.msg_id = any(%(refused)s) and not coalesce(s.ahead > 0.0, false) as locked, s.queued
)
select count(*) filter (where not queued), count(*) filter (where locked) from put
"""
_PUT_ALL_ASIDE = """
with nobodys as materialized (
    select q.msg_id from pgmq.{queue} q
    where q.vt <= clock_timestamp()
      and not exists (select from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id
                      where t.message_id = q.msg_id and t.flow_slug = %(queue)s{of_queue}
                        and (t.status = 'started' or t.status = 'queued' and r.status = 'started'))
    order by q.msg_id limit %(most)s for update skip locked
), early as materialized (
    select q.msg_id, t.queued_at from pgmq.{queue} q
    join pgflow.step_tasks t on t.message_id = q.msg_id and t.flow_slug = %(queue)s{of_queue}
         and t.status = 'queued' and t.queued_at > clock_timestamp()
    where q.vt <= clock_timestamp()
    order by q.msg_id limit %(most)s for update of q skip locked
), put as (
    update pgmq.{queue} q
    set read_ct = q.read_ct + 1,
        vt = clock_timestamp() + pg_catalog.make_interval(
            secs => least(%(vt)s::float8 * pg_catalog.power(2, least(q.read_ct, 9)), 21600))
    from nobodys n where q.msg_id = n.msg_id
    returning q.msg_id
), put_early as (
    update pgmq.{queue} q
    set vt = clock_timestamp() + pg_catalog.make_interval(
            secs => least(extract(epoch from e.queued_at) - extract(epoch from clock_timestamp()) + 0.1, 60))
    from early e where q.msg_id = e.msg_id
)
select count(*) from put
"""
# The older start_tasks leave the messages as invisible as they were read; a step of another timeout needs its own.
_EXTEND = """
with free as materialized (
    select q.msg_id, o.seconds from pgmq.{queue} q
    join unnest(%(ids)s::bigint[], %(seconds)s::integer[]) as o(msg_id, seconds) using (msg_id)
    for update of q skip locked
)
update pgmq.{queue} q set vt = clock_timestamp() + pg_catalog.make_interval(secs => free.seconds)
from free where q.msg_id = free.msg_id
"""
# Where tasks have queues, the index is of queue and message.
_OF_QUEUE = " and t.queue_name = %(queue)s"
# The tables without whose rows no task can be started, of which row level security hides rows from this role: all of
# them, for there is no policy that lets it see or change one, or perhaps some.
_HIDDEN = """
select coalesce(pg_catalog.array_agg(t.name order by t.name) filter (where not t.seen), '{}'),
       coalesce(pg_catalog.array_agg(t.name order by t.name) filter (where t.seen), '{}')
from (
    select 'pgflow.' || c.relname::text as name, not exists (
        select from pg_catalog.unnest(case when c.relname = 'step_tasks' then array['r', 'w'] else array['r'] end)
                as k(command)
        where not exists (
            select from pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) as o(role)
            where p.polrelid = c.oid and p.polpermissive and p.polcmd::text in ('*', k.command)
              and case o.role when 0::oid then true else pg_catalog.pg_has_role(o.role, 'USAGE') end)) as seen
    from pg_catalog.pg_class c
    where c.relnamespace = pg_catalog.to_regnamespace('pgflow')::oid
      and c.relname::text in ('flows', 'runs', 'step_tasks', 'steps')
      and pg_catalog.row_security_active(c.oid)
) t
"""
# What a task, its run or its message holds, and not what the database is like.
_OF_ONE = ("21", "22", "23", "P0")


class Messages:
    """The messages of one worker's queue, on one connection. Raises psycopg's errors.

    `each_its_own_vt`: starting a task has its message invisible for as long as its step may take, and not for as long
    as it was read. `known_only`: only the tasks of the definition's own steps are read.
    """

    def __init__(
        self,
        definition: FlowDefinition,
        worker_id: UUID,
        features: Features,
        *,
        vt: int | None = None,
        known_only: bool = False,
    ) -> None:
        self.queue = definition.slug
        usual = max(definition.timeout_of(s) for s in definition.steps) + VT_MARGIN
        self.vt = usual if vt is None else min(vt, usual)
        self._features = features
        self.each_its_own_vt = features.cancels
        self._known_only = known_only
        steps = [step.slug for step in definition.steps]
        self._parameters: dict[str, Any] = {"queue": self.queue, "vt": self.vt, "worker": worker_id, "steps": steps}

    def claim(self, conn: Connection, quantity: int) -> list[Any]:
        """The rows of `_CLAIM`; tried again when it met a task newer than itself.

        Such a task was sent by a transaction that began after the claim's did and was done before the claim read.
        pgflow's check that tasks are queued before they are started, by their transactions' times, then undoes the
        claim.
        """
        tries = 3
        while True:
            tries -= 1
            try:
                return self._run(conn, _READ, _ALL, quantity=quantity)
            except psycopg.errors.CheckViolation:
                if not tries:
                    raise

    def claim_unlocked(self, conn: Connection, quantity: int) -> list[Any]:
        """The same, passing over the tasks that somebody has locked."""
        return self._run(conn, _READ, _UNLOCKED, quantity=quantity)

    def read(self, conn: Connection, quantity: int) -> list[Any]:
        """Up to `quantity` messages, each id with its headers as JSON by that id; nothing is started."""
        statement = _read_only(self.queue, self._features, self._known_only)
        return conn.execute(statement, {**self._parameters, "quantity": quantity}).fetchall()

    def start(self, conn: Connection, message: int, headers: str | None) -> list[Any]:
        """The rows of `_CLAIM` for one message that was read."""
        return self._run(conn, _THIS_ONE, _ALL, message=message, headers=headers)

    def put_aside(
        self, conn: Connection, unstarted: Sequence[int], refused: Sequence[int], *, whole_queue: bool
    ) -> tuple[int, int]:
        """Have what was read and not started left alone for a while; how many are nobody's, and how many locked.

        Of the `whole_queue`, where there is hardly anything else at its head.
        """
        put = _aside_statement(_PUT_ASIDE, self.queue, self._features)
        # Where hardly anything can be started, that it can be again shall be found soon.
        longest = REFUSED_VT if whole_queue else LONGEST_REFUSED_VT
        given = {**self._parameters, "ids": list(unstarted), "refused": list(refused), "longest": longest}
        row: Any = conn.execute(put, given).fetchone()
        nobodys, locked = row
        if whole_queue:
            put = _aside_statement(_PUT_ALL_ASIDE, self.queue, self._features)
            row = conn.execute(put, {**self._parameters, "most": AT_ONCE}).fetchone()
            nobodys += row[0]
        return nobodys, locked

    def hidden(self, conn: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tables of which row level security hides all rows, and those of which it may hide some."""
        row: Any = conn.execute(_HIDDEN).fetchone()
        return tuple(row[0]), tuple(row[1])

    def extend(self, conn: Connection, seconds: dict[int, int]) -> None:
        """Have these messages invisible for so many seconds; those that somebody has locked stay as they are."""
        given = {"ids": list(seconds), "seconds": list(seconds.values())}
        conn.execute(_aside_statement(_EXTEND, self.queue, self._features), given)

    def unwired(self, conn: Connection) -> bool:
        """Whether flow, queue or worker are there no more."""
        return conn.execute(IS_WIRED, self._parameters).fetchone() == (False,)

    def _run(self, conn: Connection, messages: str, startable: str, **parameters: Any) -> list[Any]:
        known_only = self._known_only and messages is _READ
        statement = _claim_statement(messages, startable, self.queue, self._features, known_only)
        return conn.execute(statement, {**self._parameters, **parameters}).fetchall()


def of_one_message(error: DatabaseError) -> bool:
    """Whether the claim failed of what one message's task holds, so that others may be started."""
    return (error.sqlstate or "").startswith(_OF_ONE)


@cache
def _claim_statement(messages: str, startable: str, queue: str, features: Features, known_only: bool) -> str:
    headers = sql.SQL(_HEADERS if features.headers else "null::jsonb")
    return (
        sql.SQL(_CLAIM)
        .format(
            known=_known(queue, features, known_only),
            messages=sql.SQL(messages).format(headers=headers, read=_read(features, known_only)),
            startable=sql.SQL(startable).format(of_queue=_of_queue(features)),
            claimed_of=sql.SQL(", %(queue)s::text" if features.claims_by_queue else ""),
            queue=sql.Identifier(f"q_{queue}"),
            flow_input=sql.SQL("s.flow_input::text" if features.flow_input else "null"),
            version=sql.SQL(VERSION),
            wired=sql.SQL(WIRED.format(worker="%(worker)s", queue="%(queue)s")),
        )
        .as_string()
    )


@cache
def _read_only(queue: str, features: Features, known_only: bool) -> str:
    headers = sql.SQL("pg_catalog.jsonb_build_object(msg_id, headers)::text" if features.headers else "null")
    read, known = _read(features, known_only), _known(queue, features, known_only)
    return sql.SQL(_READ_ONLY).format(known=known, headers=headers, read=read).as_string()


def _known(queue: str, features: Features, known_only: bool) -> sql.Composable:
    table = sql.Identifier(f"q_{queue}")
    return sql.SQL(_KNOWN if known_only else "").format(queue=table, of_queue=_of_queue(features))


@cache
def _aside_statement(statement: str, queue: str, features: Features) -> str:
    table = sql.Identifier(f"q_{queue}")
    return sql.SQL(statement).format(queue=table, of_queue=_of_queue(features)).as_string()


def _read(features: Features, known_only: bool) -> sql.SQL:
    every_step = _ALL_STEPS_CONDITIONAL if features.conditional_read else _ALL_STEPS
    return sql.SQL("known" if known_only else every_step)


def _of_queue(features: Features) -> sql.SQL:
    return sql.SQL(_OF_QUEUE if features.tasks_have_queues else "")
