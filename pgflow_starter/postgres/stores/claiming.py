"""Claiming: messages are read and their tasks started, and no message keeps the others from it.

By the fast lane, or by the core's function in one statement. Where somebody has locked a row, what is locked is passed
over; where starting fails of what a message's task holds, each is started by itself. What is left unstarted is looked
at again after a while.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.definition import FlowDefinition, StepKind
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Connection, Session
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.fast_lane.shape import Shape
from pgflow_starter.postgres.stores.features import Features, of_queue
from pgflow_starter.postgres.stores.inputs import VERSION
from pgflow_starter.postgres.stores.next_message import visible_in
from pgflow_starter.postgres.stores.put_aside import Aside
from pgflow_starter.postgres.stores.queues import Queue
from pgflow_starter.postgres.stores.row_security import guarded
from pgflow_starter.postgres.stores.worker_rows import WIRED

VT_MARGIN = 2
"""Seconds that a message stays invisible beyond its task's timeout, as pgflow does it."""

SINGLY_VT = 10
"""Seconds that messages which are read first and started then are invisible, should nobody come to start them."""

HIDDEN_VT = 1
"""Seconds that messages are left alone whose tasks cannot be seen: that shall be found soon to be over."""

VEILED_VT = 20
"""Seconds that messages are left alone whose tasks may be there and cannot be seen."""

# Reads and claims in one statement, so that a crash cannot come between. The attempt is the count before plus one: the
# outer query does not see what start_tasks wrote, nor the row of a task that is newer than itself. So the tasks are
# locked first, in the order of their messages: what a lock gives is the row as it is then, be it changed since the
# statement began, by whom the task was given back. One row at least, for what was read. The run's version only where
# the outer query sees the very task: else the run that it sees may be one that was deleted and started anew since.
# Of a message with headers it sees until when that was hidden before it was read.
_CLAIM = """
with {known}messages as materialized (
    {messages}
), task as materialized (
    select t.run_id, t.step_slug, t.task_index, t.message_id, t.attempts_count from pgflow.step_tasks t
    where t.flow_slug = %(flow)s{of_queue}
      and t.message_id = any(array(select pg_catalog.unnest(ids) from messages))
    order by t.message_id for no key update{passing_over}
), started as materialized (
    select t.* from {startable} m, pgflow.start_tasks(%(flow)s::text, m.ids, %(worker)s::uuid{claimed_of}) t
    where m.ids is not null
)
select m.n,
       {visible_in},
       s.run_id is not null or {wired},
       case when row_number() over () = 1 then m.ids end, null,
       s.run_id, s.step_slug, s.task_index, s.msg_id, s.input::text, {flow_input},
       coalesce((select t.attempts_count from task t
                 where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = s.task_index), 0) + 1,
       nullif((m.headers -> s.msg_id::text)::text, 'null'),
       (select {version} from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id
        where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = s.task_index
          and t.message_id = s.msg_id),
       case when m.headers -> s.msg_id::text is not null
            then (select (extract(epoch from clock_timestamp()) - extract(epoch from q.vt))::float8
                  from pgmq.{queue} q where q.msg_id = s.msg_id) end
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
                      and t.flow_slug = %(flow)s{of_queue} and t.step_slug <> all(%(steps)s))
    order by q.msg_id limit %(quantity)s for update skip locked
), known as (
    update pgmq.{queue} q
    set vt = clock_timestamp() + pg_catalog.make_interval(secs => %(vt)s), read_ct = q.read_ct + 1
    from free where q.msg_id = free.msg_id
    returning q.*
), """
_THIS_ONE = "select array[%(message)s::bigint] as ids, 1::bigint as n, %(headers)s::jsonb as headers"
_HEADERS = "pg_catalog.jsonb_object_agg(msg_id, headers) filter (where headers is not null)"
_ALL = "(select (select m.ids where t.n >= 0) as ids from messages m, (select count(*) as n from task) t)"
# Whose task nobody has locked.
_UNLOCKED = "(select pg_catalog.array_agg(message_id) as ids from task)"
_READ_ONLY = """
with {known}messages as (select msg_id, {headers} as headers from {read}) select msg_id, headers from messages
"""
IS_WIRED = f"select {WIRED.format(worker='%(worker)s', flow='%(flow)s', queue='%(queue)s')}"
# Without whose rows no task can be started.
_NEEDED = {
    "pgflow.flows": {"SELECT"},
    "pgflow.runs": {"SELECT"},
    "pgflow.step_tasks": {"SELECT", "UPDATE"},
    "pgflow.steps": {"SELECT"},
}
# What a task, its run or its message holds, and not what the database is like.
_OF_ONE = ("21", "22", "23", "P0")


class Messages(Aside):
    """The messages in a queue of one worker, on one connection. Raises psycopg's errors.

    `each_its_own_vt`: starting a task has its message invisible for as long as its step may take, and not for as long
    as it was read. `known_only`: only the tasks of the definition's own steps are read.
    """

    def __init__(
        self,
        definition: FlowDefinition,
        worker_id: UUID,
        queue: Queue,
        features: Features,
        *,
        vt: int | None = None,
        known_only: bool = False,
    ) -> None:
        self.step = queue.step
        vts = [definition.timeout_of(s) + VT_MARGIN for s in definition.steps if self.step in (None, s.slug)]
        super().__init__(definition.slug, queue.name, features, max(vts) if vt is None else min(vt, max(vts)))
        self.each_its_own_vt = features.cancels
        self._known_only = known_only and self.step is None
        self._shape = Shape(
            roots=all(s.kind != StepKind.MAP and not s.depends_on for s in definition.steps), one_vt=len(set(vts)) == 1
        )
        steps = [step.slug for step in definition.steps]
        self._parameters: dict[str, Any] = {
            "flow": self.flow,
            "queue": self.queue,
            "step": self.step,
            "vt": self.vt,
            "worker": worker_id,
            "steps": steps,
            "vts": vts,
        }

    def claim(self, conn: Session, quantity: int, fast_lane: FastLane | None = None) -> list[Any]:
        """The rows of `_CLAIM`, or of `CLAIM`; tried again when it met a task newer than itself.

        Such a task was sent by a transaction that began after the claim's did and was done before the claim read.
        pgflow's check that tasks are queued before they are started, by their transactions' times, then undoes the
        claim.
        """
        tries = 3
        while True:
            tries -= 1
            try:
                rows = None
                if fast_lane is not None and self.step is None and not self._known_only:
                    parameters = {**self._parameters, "quantity": quantity}
                    rows = fast_lane.claim(conn, self._features, self._shape, parameters)
                return self._run(conn, _READ, _ALL, quantity=quantity) if rows is None else rows
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
        return self._run(conn, _THIS_ONE, _ALL, message=message, headers=headers, quantity=1)

    def hidden(self, conn: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tables of which row level security hides all rows, and those of which it may hide some."""
        there = {table: refused & _NEEDED[table] for table, refused in guarded(conn, _NEEDED).items()}
        return tuple(t for t, refused in there.items() if refused), tuple(t for t, r in there.items() if not r)

    def unwired(self, conn: Connection) -> bool:
        """Whether flow, queue or worker are there no more."""
        return conn.execute(IS_WIRED, self._parameters).fetchone() == (False,)

    def _run(self, conn: Connection, messages: str, startable: str, **parameters: Any) -> list[Any]:
        known_only = self._known_only and messages is _READ
        statement = _claim_statement(messages, startable, self.queue, self._features, known_only, self.step is not None)
        return conn.execute(statement, {**self._parameters, **parameters}).fetchall()


def of_one_message(error: DatabaseError) -> bool:
    """Whether the claim failed of what one message's task holds, so that others may be started."""
    return (error.sqlstate or "").startswith(_OF_ONE)


@cache
def _claim_statement(
    messages: str, startable: str, queue: str, features: Features, known_only: bool, of_step: bool
) -> str:
    claimed_of = ", %(queue)s::text" if features.claims_by_queue else ""
    headers = sql.SQL(_HEADERS if features.headers else "null::jsonb")
    return (
        sql.SQL(_CLAIM)
        .format(
            known=_known(queue, features, known_only),
            messages=sql.SQL(messages).format(headers=headers, read=_read(features, known_only)),
            of_queue=of_queue(features),
            passing_over=sql.SQL(" skip locked" if startable is _UNLOCKED else ""),
            startable=sql.SQL(startable),
            claimed_of=sql.SQL(claimed_of + ", %(step)s::text" * of_step),
            visible_in=visible_in(queue),
            queue=sql.Identifier(f"q_{queue}"),
            flow_input=sql.SQL("s.flow_input::text" if features.flow_input else "null"),
            version=sql.SQL(VERSION),
            wired=sql.SQL(WIRED.format(worker="%(worker)s", flow="%(flow)s", queue="%(queue)s")),
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
    return sql.SQL(_KNOWN if known_only else "").format(queue=table, of_queue=of_queue(features))


def _read(features: Features, known_only: bool) -> sql.SQL:
    every_step = _ALL_STEPS_CONDITIONAL if features.conditional_read else _ALL_STEPS
    return sql.SQL("known" if known_only else every_step)
