"""Messages and tasks in the database: what a worker does there, by pgflow's protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.definition import FlowDefinition, StepDefinition
from pgflow_starter.core.evidence import Evidence, TaskKey
from pgflow_starter.core.task import Claimed, Outcome, Settled, Task
from pgflow_starter.errors import DatabaseError, UnknownFlowError
from pgflow_starter.ports import CancelScope
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import QUERY_CANCELED, Database
from pgflow_starter.postgres.connections.errors import translate
from pgflow_starter.postgres.stores.claiming import (
    HIDDEN_VT,
    SINGLY_VT,
    VEILED_VT,
    VT_MARGIN,
    WIRED,
    Messages,
    of_one_message,
)
from pgflow_starter.postgres.stores.evidence import Looks
from pgflow_starter.postgres.stores.features import Features, detect
from pgflow_starter.postgres.stores.inputs import FlowInputs
from pgflow_starter.postgres.stores.settling import Settling
from pgflow_starter.postgres.stores.stalled import Stalled

LOOK_LOCK = 0.1
"""Seconds that a look into many queues waits for one that somebody has locked: each claims by itself then."""

KNOWN_ONLY = 60.0
"""Seconds for which claims read no tasks of steps that the code does not have, once they met one."""

# Of many queues and workers at a time; the queues' tables are named in the text.
_LOOK = """
select case when {wired} then extract(epoch from case given.n {firsts} end) - extract(epoch from clock_timestamp())
       else 0 end
from unnest({workers}::uuid[], {queues}::text[]) with ordinality as given (worker, queue, n)
order by given.n
"""
_FIRST = "when {n} then (select min(vt) from pgmq.{queue})"
_REPLACED_STATES = ("42883", "42P13")  # the core is another than it was when it was looked at
_UNWIRED_STATES = ("3F000", "42P01", "42883", "23503")  # schema, table, function missing; unknown worker
# One statement for all workers of a process. A row that is gone stays so: by that a worker knows that it must be wired
# again, see `claim`. One that somebody has locked is passed over: the others are alive all the same.
_HEARTBEAT = """
update pgflow.workers w set last_heartbeat_at = now()
from (select worker_id from pgflow.workers where worker_id = any(%s) for no key update skip locked) free
where w.worker_id = free.worker_id
returning w.worker_id, w.deprecated_at is not null
"""
# The newer cores' requeue_stalled_tasks takes a task from its living worker when it is 30 s older than its timeout: its
# flow's, which a step's may exceed, or its step's, of which we may be told late. It is kept just younger. Not as young
# as now: a completion that has begun before would end before its task began.
_KEEP_YOUNG = """
with old as (
    select t.run_id, t.step_slug, t.task_index,
           now() - pg_catalog.make_interval(secs => {timeout} + 5) as just_younger
    from pgflow.step_tasks t
    join pgflow.flows f on f.flow_slug = t.flow_slug
    join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    where t.status = 'started' and t.last_worker_id = any(%s)
      and t.started_at < now() - pg_catalog.make_interval(secs => {timeout} + 5)
    for update of t skip locked
)
update pgflow.step_tasks t set started_at = old.just_younger
from old where t.run_id = old.run_id and t.step_slug = old.step_slug and t.task_index = old.task_index
"""
# The rows are locked in an order, and those that somebody else has locked are passed over where that is wanted.
_STOPPED_NEW = """
select free.worker_id, pgflow.mark_worker_stopped(free.worker_id)
from (select worker_id from pgflow.workers where worker_id = any(%s) order by 1 for no key update {skip}) free
"""
_STOPPED_OLD = """
update pgflow.workers w set deprecated_at = coalesce(w.deprecated_at, now())
from (select worker_id from pgflow.workers where worker_id = any(%s) order by 1 for no key update {skip}) free
where w.worker_id = free.worker_id
returning w.worker_id
"""


class PostgresTaskStore:
    """`ports.TaskStore` on a Database. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._features: Features | None = None
        self._known_only: dict[str, float] = {}
        self._inputs = FlowInputs()
        self._settling, self._stalled = Settling(database), Stalled(database)
        self._looks = Looks(database, self._detected)

    def claim(
        self, definition: FlowDefinition, worker_id: UUID, quantity: int, scope: CancelScope, answers: float = 1.0
    ) -> Claimed:
        """Read up to `quantity` visible messages and start their tasks, within `answers` times the usual limit.

        Raises DatabaseError; UnknownFlowError when the flow or the worker is in the database no more.
        """
        knew = self._features is not None
        try:
            try:
                claimed = self._claimed(definition, worker_id, quantity, scope, answers, Messages.claim)
            except DatabaseError as error:
                if error.locked:
                    claimed = self._claimed(definition, worker_id, quantity, scope, answers, Messages.claim_unlocked)
                elif of_one_message(error):
                    claimed = self._claimed_singly(definition, worker_id, quantity, scope)
                elif knew and error.sqlstate in _REPLACED_STATES:
                    claimed = self._claimed(definition, worker_id, quantity, scope, answers, Messages.claim)
                else:
                    raise
        except _AfterClaim as after:
            raise after.error from after
        return self._of_known_steps(definition, worker_id, claimed)

    def look(self, workers: Sequence[tuple[UUID, str]]) -> list[float | None]:
        """For each worker (id, queue): in how many seconds its queue has a visible message, None when it has none.

        0 also where the claim will fail. Raises DatabaseError, too, for all when the table of one queue is missing, or
        locked for longer than a moment.
        """
        firsts = [
            sql.SQL(_FIRST).format(n=sql.Literal(n), queue=sql.Identifier(f"q_{queue}"))
            for n, (_, queue) in enumerate(workers, start=1)
        ]
        statement = sql.SQL(_LOOK).format(
            wired=sql.SQL(WIRED.format(worker="given.worker", queue="given.queue")),
            firsts=sql.SQL(" ").join(firsts),
            workers=sql.Literal([worker for worker, _ in workers]),
            queues=sql.Literal([queue for _, queue in workers]),
        )
        with self._database.connection(lock=LOOK_LOCK) as conn:
            rows: list[Any] = conn.execute(statement, prepare=False).fetchall()
        return [None if seconds is None else float(seconds) for (seconds,) in rows]

    def settle(self, outcomes: Sequence[Outcome], answers: float = 1.0, careful: bool = False) -> Settled:
        """As `Settling.settle`."""
        return self._settling.settle(outcomes, answers, careful)

    def give_back(self, worker_id: UUID, tasks: Sequence[Task]) -> set[tuple[UUID, str, int]]:
        """As `Stalled.give_back`."""
        return self._stalled.give_back(worker_id, tasks)

    def started_by(self, workers: Sequence[UUID]) -> Sequence[tuple[UUID, Task]]:
        """As `Stalled.started_by`."""
        return self._stalled.started_by(workers)

    def recover_stalled(self, slugs: Sequence[str], own: Sequence[UUID], stale_threshold: float) -> int:
        """As `Stalled.recover`."""
        return self._stalled.recover(slugs, own, stale_threshold)

    def evidence(
        self, slugs: Sequence[str], lost: Mapping[str, Sequence[TaskKey]], doubted: Mapping[str, Iterable[int]]
    ) -> Mapping[str, Evidence]:
        """As `Looks.look`."""
        return self._looks.look(slugs, lost, doubted)

    def heartbeat(self, workers: Sequence[UUID]) -> set[UUID]:
        """Say that the workers are alive; those that pgflow wants to stop are returned. Waits for nobody else's."""
        rows: list[Any] = self._database.call(
            lambda conn: conn.execute(_HEARTBEAT, (list(workers),)).fetchall(), urgent=True
        )
        return {worker for worker, deprecated in rows if deprecated}

    def keep_young(self, workers: Sequence[UUID]) -> None:
        """See to it that nobody who goes by the age of tasks takes those of these workers."""

        def kept(conn: Connection) -> None:
            self._features = None  # the core may have been upgraded under us, and nothing has failed of it
            features = self._detected(conn)
            if features.requeue_stalled_tasks:
                timeout = "coalesce(s.opt_timeout, f.opt_timeout)" if features.cancels else "f.opt_timeout"
                conn.execute(_KEEP_YOUNG.format(timeout=timeout), (list(workers),))

        self._database.call(kept)

    def workers_stopped(self, workers: Sequence[UUID]) -> None:
        """Say that the workers have stopped, in one statement; of those that somebody has locked in another one.

        For that lock it waits as `Database.connection` does.
        """

        def stopped(conn: Connection) -> None:
            self._features = None  # the core may have been upgraded under us
            statement = _STOPPED_NEW if self._detected(conn).mark_worker_stopped else _STOPPED_OLD
            rows: list[Any] = conn.execute(statement.format(skip="skip locked"), (list(workers),)).fetchall()
            locked = set(workers) - {row[0] for row in rows}
            if locked:
                conn.execute(statement.format(skip=""), (list(locked),))

        self._database.call(stopped)

    def _claimed(
        self,
        definition: FlowDefinition,
        worker_id: UUID,
        quantity: int,
        scope: CancelScope,
        answers: float,
        claim: Any,
    ) -> Claimed:
        """One of the ways to claim, and what it came to."""

        def claimed(conn: Connection) -> tuple[int, float | None, Sequence[int], tuple[Task, ...]]:
            messages = self._messages(conn, definition, worker_id)
            with self._wired(conn, messages):
                rows = claim(messages, conn, quantity)
            return self._tasks(conn, messages, definition, rows)

        read, visible_in, ids, tasks = self._database.call(claimed, scope, answers=answers)
        claimed_ = Claimed(read, tasks, visible_in)
        return claimed_ if len(tasks) == read else self._put_aside(definition, worker_id, ids, claimed_)

    def _of_known_steps(self, definition: FlowDefinition, worker_id: UUID, claimed: Claimed) -> Claimed:
        """The same without the tasks of steps that the definition does not have: another worker's code may have them.

        They are not read for a while then: whenever they are, they are kept from whoever has their step. Raises
        nothing: there may be tasks to be run. What is not given back here is when the worker is asked what it knows.
        """
        steps = {step.slug for step in definition.steps}
        unknown = [task for task in claimed.tasks if task.step_slug not in steps]
        if not unknown:
            return claimed
        self._known_only[definition.slug] = self._database.clock.monotonic() + KNOWN_ONLY
        with suppress(DatabaseError):
            self._stalled.give_back(worker_id, unknown)
        known = tuple(task for task in claimed.tasks if task.step_slug in steps)
        return replace(claimed, tasks=known, unknown=frozenset(task.step_slug for task in unknown))

    def _messages(
        self, conn: Connection, definition: FlowDefinition, worker_id: UUID, vt: int | None = None
    ) -> Messages:
        known_only = self._database.clock.monotonic() < self._known_only.get(definition.slug, 0.0)
        return Messages(definition, worker_id, self._detected(conn), vt=vt, known_only=known_only)

    def _claimed_singly(
        self, definition: FlowDefinition, worker_id: UUID, quantity: int, scope: CancelScope
    ) -> Claimed:
        """Read, and then start each task by itself, for one of them cannot be."""

        def read(conn: Connection) -> list[Any]:
            return self._messages(conn, definition, worker_id, SINGLY_VT).read(conn, quantity)

        def start(message: int, headers: str | None, conn: Connection) -> tuple[Task, ...]:
            messages = self._messages(conn, definition, worker_id, SINGLY_VT)
            with self._wired(conn, messages):
                rows = messages.start(conn, message, headers)
            return self._tasks(conn, messages, definition, rows)[3]

        messages = self._database.call(read, scope)
        tasks: list[Task] = []
        refused: list[tuple[int, str]] = []
        for message, headers in messages:
            try:
                tasks += self._database.call(partial(start, message, headers), scope)
            except DatabaseError as error:
                if not (error.locked or of_one_message(error)):
                    if tasks:
                        break  # what has been started is to be run
                    raise
                refused.append((message, reason_for_logs(error)))
        claimed = Claimed(len(messages), tuple(tasks), None, refused=tuple(refused))
        return self._put_aside(definition, worker_id, [message for message, _ in messages], claimed)

    def _put_aside(self, definition: FlowDefinition, worker_id: UUID, ids: Sequence[int], claimed: Claimed) -> Claimed:
        """What was read and not started is left alone for a while; the same with whose the messages are.

        They are nobody's, or their tasks are locked; or row level security hides these, then for a moment only. Raises
        nothing: there may be tasks to be run. Without it the messages are visible again when their vt says so.
        """
        started = {task.msg_id for task in claimed.tasks}
        unstarted = [message for message in ids if message not in started]
        if not unstarted:
            return claimed
        refused = [message for message, _ in claimed.refused]

        def put(conn: Connection) -> Claimed:
            messages = Messages(definition, worker_id, self._detected(conn))
            hidden, veiled = messages.hidden(conn)
            if hidden or veiled:
                messages.extend(conn, dict.fromkeys(unstarted, HIDDEN_VT if hidden else VEILED_VT))
                nobodys = 0 if hidden else len(unstarted) - len(refused)
                return replace(claimed, nobodys=nobodys, hidden=hidden, veiled=veiled)
            few = 2 * len(started) < len(ids)
            nobodys, locked = messages.put_aside(conn, unstarted, refused, whole_queue=few)
            return replace(claimed, nobodys=nobodys, locked=locked)

        try:
            return self._database.call(put)
        except DatabaseError:
            return claimed

    def _tasks(
        self, conn: Connection, messages: Messages, definition: FlowDefinition, rows: list[Any]
    ) -> tuple[int, float | None, Sequence[int], tuple[Task, ...]]:
        """The rows of a claim: messages read, when the next is visible, the ids of those, and the tasks started."""
        read, visible_in, wired, ids = rows[0][:4]
        if not wired:
            raise _unwired(messages.queue)
        started = [r[4:] for r in rows if r[4] is not None]
        steps = {s.slug: s for s in definition.steps}
        try:
            _extend(conn, definition, steps, messages, started)
            tasks = self._inputs.tasks(conn, messages.queue, steps, started)
        except psycopg.Error as raised:
            if raised.sqlstate is None:
                raise
            # The tasks are started: nobody may claim once more as if they were not.
            error = translate(raised, self._database.redact)
            error.timed_out = raised.sqlstate == QUERY_CANCELED
            raise _AfterClaim(error) from raised
        return read, None if visible_in is None else float(visible_in), ids or (), tasks

    def _wired(self, conn: Connection, messages: Messages) -> _Wired:
        return _Wired(self, conn, messages)

    def _detected(self, conn: Connection) -> Features:
        features = self._features
        if features is None:
            try:
                features = self._features = detect(conn)
            except (DatabaseError, psycopg.Error):
                raise
            except Exception as error:
                # To a running worker the schema being away is an outage like any other.
                raise DatabaseError(str(error), error_type=type(error).__name__) from error
        return features

    def forget_features(self) -> None:
        """The core may have been replaced under us."""
        self._features = None


class _Wired:
    """Around a claim: what it raises because flow or worker are there no more comes out as UnknownFlowError."""

    def __init__(self, store: PostgresTaskStore, conn: Connection, messages: Messages) -> None:
        self._store = store
        self._conn = conn
        self._messages = messages

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.Error):
            self._store.forget_features()
            if error.sqlstate in _UNWIRED_STATES and self._messages.unwired(self._conn):
                raise _unwired(self._messages.queue) from error


class _AfterClaim(Exception):  # noqa: N818 - where an error was met, no error of its own
    """What was raised when the tasks had been started."""

    def __init__(self, error: DatabaseError) -> None:
        super().__init__(str(error))
        self.error = error


def _extend(
    conn: Connection,
    definition: FlowDefinition,
    steps: dict[str, StepDefinition],
    messages: Messages,
    rows: Sequence[Any],
) -> None:
    if messages.each_its_own_vt:
        return
    other = {r[3]: definition.timeout_of(steps[r[1]]) + VT_MARGIN for r in rows if r[1] in steps}
    other = {message: seconds for message, seconds in other.items() if seconds != messages.vt}
    if other:
        messages.extend(conn, other)


def _unwired(slug: str) -> UnknownFlowError:
    return UnknownFlowError(f"flow {slug!r} or its worker is in the database no more: was pgflow installed anew?")
