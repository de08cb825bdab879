"""Messages and tasks in the database: what a worker does there, by pgflow's protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import psycopg

from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.evidence import MessageKey
from pgflow_starter.core.task import Claimed, Task
from pgflow_starter.errors import MISSING_STATES, DatabaseError, PgflowError, UnknownFlowError
from pgflow_starter.postgres.connections.connection import Connection, Session
from pgflow_starter.postgres.connections.database import QUERY_CANCELED, Database
from pgflow_starter.postgres.connections.errors import translate
from pgflow_starter.postgres.stores import claiming
from pgflow_starter.postgres.stores.barred_queues import BarredQueues
from pgflow_starter.postgres.stores.claiming import Messages, of_one_message
from pgflow_starter.postgres.stores.evidence import Looks
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.inputs import FlowInputs
from pgflow_starter.postgres.stores.next_message import SOON
from pgflow_starter.postgres.stores.queues import Queue
from pgflow_starter.postgres.stores.settling import Settling
from pgflow_starter.postgres.stores.stalled import Stalled
from pgflow_starter.postgres.stores.worker_rows import WorkerRows

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope

KNOWN_ONLY = 60.0
"""Seconds for which claims read no tasks of steps that the code does not have, once they met one."""

_REPLACED_STATES = ("0A", "42")  # the core is another than it was when it was looked at, or than the fast lane takes it
_UNWIRED_STATES = (*MISSING_STATES, "23503")  # or an unknown worker


class _Whose(NamedTuple):
    """Who claims, and from which queue."""

    definition: FlowDefinition
    worker_id: UUID
    queue: Queue


class PostgresTaskStore(WorkerRows, Stalled, Settling, Looks):
    """`ports.TaskStore` on a Database. Blocks on I/O; thread-safe."""

    def __init__(
        self, database: Database, *, fast_lane: bool = True, carried: Callable[[str], str | None] = lambda _: None
    ) -> None:
        """`carried` is `MessageObserver`'s: of a message's headers those that the later ones of its run have, too."""
        super().__init__(database)
        self._carried = carried
        self._fast_lane = FastLane(database.clock, wanted=fast_lane)
        self._known_only: dict[str, float] = {}
        self._inputs = FlowInputs()
        self._barred = BarredQueues(database)
        self._turns: dict[str, int] = {}

    @property
    def fast_lane(self) -> FastLane:
        """That of this store, for whoever starts runs beside it."""
        return self._fast_lane

    def claim(
        self, definition: FlowDefinition, worker_id: UUID, quantity: int, scope: CancelScope, answers: float = 1.0
    ) -> Claimed:
        """As `TaskStore.claim`."""
        queues = self._queues.known(definition.slug) or self._database.call(partial(self._looked_up, definition), scope)
        if queues[0].step is None:
            return self._claim_from(_Whose(definition, worker_id, queues[0]), quantity, scope, answers)
        return self._claim_by_steps(definition, worker_id, queues, quantity, scope, answers)

    def _claim_by_steps(
        self,
        definition: FlowDefinition,
        worker_id: UUID,
        queues: Sequence[Queue],
        quantity: int,
        scope: CancelScope,
        answers: float,
    ) -> Claimed:
        # Each is the first in its turn: none starves. One that is locked or gone keeps the others waiting once, as long
        # as a claim waits for a lock; then it is passed over, until a look at it that does not wait says better.
        turn = self._turns.get(definition.slug, 0) % len(queues)
        self._turns[definition.slug] = turn + 1
        ours = [queue for queue in (*queues[turn:], *queues[:turn]) if definition.step(queue.step or "") is not None]
        claimed = Claimed(0, ())
        for queue in ours:
            if claimed.read >= quantity:
                break
            whose = _Whose(definition, worker_id, queue)
            try:
                if self._barred.bars(definition.slug, worker_id, queue, scope):
                    continue
                claimed = claimed.and_of(self._claim_from(whose, quantity - claimed.read, scope, answers))
            except PgflowError as error:
                if self._is_barred(whose, error, scope):
                    continue
                if not claimed.tasks:
                    raise
                break  # what has been started is to be run
        barred = self._barred.of(ours)
        if barred and len(barred) == len(ours) and not claimed.read:
            self._barred.refuse(definition.slug, ours)
        return claimed._replace(barred=barred)

    def _is_barred(self, whose: _Whose, error: PgflowError, scope: CancelScope) -> bool:
        """Whether that is why claiming from the queue of a step failed. Raises nothing."""
        slug, (_, worker_id, queue) = whose.definition.slug, whose
        return queue.step is not None and self._barred.explains(error, slug, worker_id, queue, scope)

    def _looked_up(self, definition: FlowDefinition, conn: Session) -> tuple[Queue, ...]:
        return self._queues_of(conn, [definition.slug])[definition.slug]

    def _claim_from(self, whose: _Whose, quantity: int, scope: CancelScope, answers: float) -> Claimed:
        by_lane = partial(Messages.claim, fast_lane=self._fast_lane)
        try:
            try:
                claimed = self._claimed(whose, quantity, scope, answers, by_lane)
            except DatabaseError as error:
                if error.locked:
                    if self._is_barred(whose, error, scope):
                        raise
                    claimed = self._claimed(whose, quantity, scope, answers, Messages.claim_unlocked)
                elif of_one_message(error):
                    claimed = self._claimed_singly(whose, quantity, scope)
                elif (error.sqlstate or "").startswith(_REPLACED_STATES):
                    claimed = self._claimed(whose, quantity, scope, answers, Messages.claim)
                    if self._fast_lane.state is not None and self._fast_lane.state.on:
                        self._fast_lane.failed(str(error.sqlstate))
                else:
                    raise
        except _AfterClaim as after:
            raise after.error from after
        return self._of_known_steps(whose, claimed)

    def _claimed(self, whose: _Whose, quantity: int, scope: CancelScope, answers: float, claim: Any) -> Claimed:
        """One of the ways to claim, and what it came to."""

        def claimed(conn: Session) -> tuple[Claimed, Sequence[int], str | None]:
            messages = self._messages(conn, whose)
            with self._wired(conn, messages):
                rows = claim(messages, conn, quantity)
            return self._tasks(conn, messages, whose.definition, rows)

        claimed_, ids, headers = self._database.call(claimed, scope, answers=answers)
        if len(claimed_.tasks) < claimed_.read and headers is not None:
            # The fast lane leaves to the core's function what is not common.
            started = {task.msg_id for task in claimed_.tasks}
            left = [(message, headers) for message in ids if message not in started]
            claimed_ = self._started_singly(whose, scope, left, claimed_)
        if len(claimed_.tasks) == claimed_.read:
            return claimed_
        return self._put_aside(whose, ids, claimed_)

    def _of_known_steps(self, whose: _Whose, claimed: Claimed) -> Claimed:
        """The same without the tasks of steps that the definition does not have: another worker's code may have them.

        They are not read for a while then: whenever they are, they are kept from whoever has their step. Raises
        nothing: there may be tasks to be run. What is not given back here is when the worker is asked what it knows.
        """
        steps = {step.slug for step in whose.definition.steps}
        unknown = [task for task in claimed.tasks if task.step_slug not in steps]
        if not unknown:
            return claimed
        self._known_only[whose.definition.slug] = self._database.clock.monotonic() + KNOWN_ONLY
        with suppress(DatabaseError):
            self.give_back(whose.worker_id, unknown)
        known = tuple(task for task in claimed.tasks if task.step_slug in steps)
        return claimed._replace(tasks=known, unknown=frozenset(task.step_slug for task in unknown))

    def _messages(self, conn: Connection, whose: _Whose, vt: int | None = None) -> Messages:
        known_only = self._database.clock.monotonic() < self._known_only.get(whose.definition.slug, 0.0)
        return Messages(*whose, self._detected(conn), vt=vt, known_only=known_only)

    def _claimed_singly(self, whose: _Whose, quantity: int, scope: CancelScope) -> Claimed:
        """Read, and then start each task by itself, for one of them cannot be."""

        def read(conn: Connection) -> list[Any]:
            return self._messages(conn, whose, claiming.SINGLY_VT).read(conn, quantity)

        messages = self._database.call(read, scope)
        claimed = Claimed(len(messages), (), SOON)
        claimed = self._started_singly(whose, scope, messages, claimed, claiming.SINGLY_VT)
        return self._put_aside(whose, [message for message, _ in messages], claimed)

    def _started_singly(
        self,
        whose: _Whose,
        scope: CancelScope,
        left: Sequence[tuple[int, str | None]],
        claimed: Claimed,
        vt: int | None = None,
    ) -> Claimed:
        """The same with those tasks of the messages that were `left`, and read as by `vt`, which can be started."""

        def start(message: int, headers: str | None, conn: Connection) -> tuple[Task, ...]:
            messages = self._messages(conn, whose, vt)
            with self._wired(conn, messages):
                rows = messages.start(conn, message, headers)
            return self._tasks(conn, messages, whose.definition, rows)[0].tasks

        tasks = [*claimed.tasks]
        refused: list[tuple[MessageKey, str]] = []
        for message, headers in left:
            try:
                tasks += self._database.call(partial(start, message, headers), scope)
            except DatabaseError as error:
                if not (error.locked or of_one_message(error)):
                    if tasks:
                        break  # what has been started is to be run
                    raise
                refused.append(((whose.queue.name, message), reason_for_logs(error)))
        return claimed._replace(tasks=tuple(tasks), refused=tuple(refused))

    def _put_aside(self, whose: _Whose, ids: Sequence[int], claimed: Claimed) -> Claimed:
        """What was read and not started is left alone for a while; the same with whose the messages are.

        They are nobody's, or their tasks are locked; or row level security hides these, then for a moment only. Raises
        nothing: there may be tasks to be run. Without it the messages are visible again when their vt says so.
        """
        started = {task.msg_id for task in claimed.tasks}
        unstarted = [message for message in ids if message not in started]
        if not unstarted:
            return claimed
        refused = [message for (_, message), _ in claimed.refused]
        claimed = claimed._replace(queue=whose.queue.name if whose.queue.step else None)

        def put(conn: Connection) -> Claimed:
            messages = Messages(*whose, self._detected(conn))
            hidden, veiled = messages.hidden(conn)
            if hidden or veiled:
                messages.extend(conn, dict.fromkeys(unstarted, claiming.HIDDEN_VT if hidden else claiming.VEILED_VT))
                nobodys = 0 if hidden else len(unstarted) - len(refused)
                return claimed._replace(nobodys=nobodys, hidden=hidden, veiled=veiled)
            few = 2 * len(started) < len(ids)
            nobodys, locked = messages.put_aside(conn, unstarted, refused, whole_queue=few)
            return claimed._replace(nobodys=nobodys, locked=locked)

        try:
            return self._database.call(put)
        except DatabaseError:
            return claimed

    def _tasks(
        self, conn: Connection, messages: Messages, definition: FlowDefinition, rows: list[Any]
    ) -> tuple[Claimed, Sequence[int], str | None]:
        """The rows of a claim: what was claimed, the ids of what was read, and its headers, if by the fast lane."""
        read, visible_in, wired, ids, headers = rows[0][:5]
        if not wired:
            raise _unwired(messages.flow)
        started = [r[5:] for r in rows if r[5] is not None]
        steps = {s.slug: s for s in definition.steps}
        try:
            if not messages.each_its_own_vt and headers is None:
                vts = {r[3]: definition.timeout_of(steps[r[1]]) + claiming.VT_MARGIN for r in started if r[1] in steps}
                other = {message: seconds for message, seconds in vts.items() if seconds != messages.vt}
                if other:
                    messages.extend(conn, other)
            tasks = self._inputs.tasks(
                conn, messages.flow, steps, started, messages.queue if messages.step is not None else None
            )
        except psycopg.Error as raised:
            if raised.sqlstate is None:
                raise
            # The tasks are started: nobody may claim once more as if they were not.
            error = translate(raised, self._database.redact)
            error.timed_out = raised.sqlstate == QUERY_CANCELED
            raise _AfterClaim(error) from raised
        return Claimed(read, tasks, None if visible_in is None else float(visible_in)), ids or (), headers

    @contextmanager
    def _wired(self, conn: Connection, messages: Messages) -> Iterator[None]:
        """Around a claim: what it raises because flow or worker are there no more comes out as UnknownFlowError."""
        try:
            yield
        except psycopg.Error as error:
            self._detected.forget()
            self._queues.forget()
            self._fast_lane.forget()
            if error.sqlstate in _UNWIRED_STATES and messages.unwired(conn):
                raise _unwired(messages.flow) from error
            raise


class _AfterClaim(Exception):  # noqa: N818 - where an error was met, no error of its own
    """What was raised when the tasks had been started."""

    def __init__(self, error: DatabaseError) -> None:
        super().__init__(str(error))
        self.error = error


def _unwired(slug: str) -> UnknownFlowError:
    return UnknownFlowError(
        f"flow {slug!r} or its worker is in the database no more: was it deleted, or pgflow installed anew?"
    )
