"""`Outbox`: outcomes on their way into the database, written by whoever is there.

A task's thread puts its outcome in and, when nobody is writing, writes all that is there; outcomes that come meanwhile
are the next batch. So there is no thread that waits, and the busier the workers the larger the batches. What cannot be
written stays, in order, and is written again: doing it twice is no harm.

The outcomes of a run that somebody has locked, or of which one is refused, are parked, and come again by themselves:
nobody else's wait for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import islice
from math import inf
from uuid import UUID

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.core.news import Breaks, News
from pgflow_starter.core.task import Ignored, Outcome, OutcomeKind, Settled, Task
from pgflow_starter.core.trouble import TroubleKind, TroubleScope, with_remedy
from pgflow_starter.errors import DatabaseError
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.ports import TaskStore
from pgflow_starter.worker.execution import failed
from pgflow_starter.worker.troubles import Troubles

BATCH = 50

LONGEST = 32.0
"""Times the usual limit that a single outcome gets at most."""

FIRST_PAUSE, LAST_PAUSE = 0.02, 2.0
"""Seconds until the outcomes of a run that is parked are tried again: at first, and when it has been for long."""

REFUSED_PAUSE = 0.4
"""The longest of them where the database refuses one: for what, only a person can say."""

PARKED_FREE = 1000
"""Parked outcomes that keep a worker from nothing; those beyond count as others that wait."""

ALL_REFUSED = 3
"""Runs of which not one outcome can be written until that counts as trouble of scope all."""

_OF_ALL = "42"  # rights, and what is not there: it is not this run's fault, by SQLSTATE class
_DATA_ERRORS = ("22", "54")  # data exceptions and program limits, by SQLSTATE class
_PASSING_ERRORS = ("40", "55", "57")  # a deadlock, a lock, an operator


class _Parked:
    """Since when the outcomes of a run wait, and when they are tried again (monotonic clock); what refused them."""

    __slots__ = ("due", "error_type", "pause", "reason", "since")

    def __init__(self, since: float) -> None:
        self.since = self.due = since
        self.pause = FIRST_PAUSE
        self.reason = self.error_type = ""


class _Line:
    """Who writes, and how much at a time: of what is parked, or of all else. Neither waits for the other."""

    __slots__ = ("answers", "parked", "size", "writing")

    def __init__(self, *, parked: bool) -> None:
        self.parked = parked
        self.writing = threading.Lock()
        self.size = BATCH
        self.answers = 1.0


class Outbox:
    """Outcomes of one worker. Thread-safe.

    `settled(outcomes)` is told of those that are written, as `IGNORED` of those that pgflow ignored; `again(seconds)`
    has somebody flush then, for some could not be, None: when the worker thinks fit. `failed(outcome)` is told of one
    that was completed and cannot be stored; `away` tells an outage.
    """

    def __init__(
        self,
        store: TaskStore,
        clock: Clock,
        settled: Callable[[Sequence[Outcome]], None],
        again: Callable[[float | None], None],
        log: ModuleLog,
        troubles: Troubles,
        *,
        failed: Callable[[Outcome], object],
        away: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._settled = settled
        self._again = again
        self._log = log
        self._troubles = troubles
        self._failed = failed
        self._stalled, self._breaks = News(), Breaks()
        self._away = away
        self._written_at = -inf
        self._void: set[TaskKey] = set()
        self._voided: TaskKey | None = None
        self._came_again: TaskKey | None = None
        self._lock = threading.Lock()  # around the next two lines'
        self._waiting: deque[Outcome] = deque()
        self._parked: dict[UUID, _Parked] = {}
        self._line, self._parked_line = _Line(parked=False), _Line(parked=True)
        self._called = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def parked(self) -> int:
        """Outcomes of runs that are parked."""
        if not self._parked:
            return 0
        with self._lock:
            return sum(outcome.task.run_id in self._parked for outcome in self._waiting)

    @property
    def weight(self) -> int:
        """Outcomes for whose sake a worker should claim less."""
        return len(self._waiting) - min(self.parked, PARKED_FREE)

    def put(self, outcome: Outcome) -> None:
        """Add an outcome and write what is there, unless another thread is at it. Blocks on I/O."""
        self.add(outcome)
        self.flush()

    def add(self, outcome: Outcome) -> None:
        """Add an outcome; somebody must `flush`."""
        with self._lock:
            self._waiting.append(outcome)

    def flush_soon(self, run: Callable[[Callable[[], object]], object]) -> None:
        """Have another thread, which `run` brings, write what is there, unless one is at it or on its way."""
        if self._called or self._line.writing.locked():
            return
        self._called = True
        try:
            run(self._called_to_flush)
        except RuntimeError:  # no thread to be had: whoever called does it when it has the time
            self._called = False

    def _called_to_flush(self) -> None:
        self._called = False
        self.flush()

    def tasks(self) -> list[Task]:
        """The tasks whose outcomes are not written."""
        with self._lock:
            return [outcome.task for outcome in self._waiting]

    def flush(self, *, wait: bool = False) -> bool:
        """Write what is there; when another thread is at it leave it to that one, unless `wait`.

        False when something could not be written. Who waits does not wait for what is parked to be due.
        """
        complete = self._flush(self._line, wait)
        if self._parked:
            complete = self._flush(self._parked_line, wait) and complete
        return complete and not (wait and self._waiting)

    def _flush(self, line: _Line, wait: bool) -> bool:
        # Checked again after each release: an outcome put in while its writer was leaving must not wait for the next.
        tries, all_of_it = 2, wait
        while self._next_batch(line, all_of_it) and line.writing.acquire(blocking=wait):
            written: list[Outcome] = []
            try:
                complete = self._write_batch(line, self._next_batch(line, all_of_it), written)
            except Unwritten as unwritten:
                complete = False
                tries -= 1
                if tries and unwritten.connection_lost:
                    continue  # the database may be there, and what was written may be so again
            finally:
                line.writing.release()
                if written:
                    if self._stalled.over():
                        self._log.info("outcomes are written again")
                    self._settled(written)
            if not complete:
                self._again(None)
                return False
            all_of_it = all_of_it and bool(written)  # what is still locked now may be so for long
        return True

    def _next_batch(self, line: _Line, all_of_it: bool) -> list[Outcome]:
        """The next that wait in the line; those that are parked when they are due, unless all of it is wanted."""
        with self._lock:
            if not self._parked:
                return [] if line.parked else list(islice(self._waiting, line.size))
            now, parked = self._clock.monotonic(), self._parked
            if not line.parked:
                batch = (o for o in self._waiting if o.task.run_id not in parked)
            else:
                due = {run for run, rest in parked.items() if all_of_it or rest.due <= now}
                batch = (o for o in self._waiting if o.task.run_id in due)
            return list(islice(batch, line.size))

    def _write_batch(self, line: _Line, batch: list[Outcome], written: list[Outcome]) -> bool:
        """Write these, and say what of it is `written`; False where something could not be, for all I know."""
        if not batch:
            return True
        try:
            locked = self._settle(line, batch)
        except Unwritten:
            if not line.parked:
                raise
            self._park(batch)
            return True
        except Exception as error:
            if len(batch) > 1:
                return self._write_singly(line, batch, written)
            return self._write_refused(batch[0], error)
        self._sort_out(batch, locked, written)
        return True

    def _write_singly(self, line: _Line, batch: Sequence[Outcome], written: list[Outcome]) -> bool:
        """One of the batch was refused, and with it all: write each by itself, and park the run of the refused."""
        complete = True
        for outcome in batch:
            try:
                locked = self._settle(line, [outcome])
            except Unwritten:
                raise
            except Exception as error:
                complete = self._write_refused(outcome, error) and complete
                continue
            self._sort_out([outcome], locked, written)
        return complete

    def _sort_out(self, batch: Sequence[Outcome], locked: Settled, written: list[Outcome]) -> None:
        """All of the batch are written, but those that somebody's lock kept from it: their runs are parked."""
        kept = {id(outcome) for outcome in locked}
        done = [outcome for outcome in batch if id(outcome) not in kept]
        with self._lock:
            self._take_out(done)
            if self._parked:
                left = {outcome.task.run_id for outcome in self._waiting}
                self._parked = {run: parked for run, parked in self._parked.items() if run in left}
            self._count(done, locked.ignored)
        if locked:
            self._park(locked)
        self._judge()
        ignored = self._tell_ignored(locked.ignored)
        written += [ignored.get(id(outcome), outcome) for outcome in done]

    def _count(self, done: Sequence[Outcome], ignored: Sequence[tuple[Outcome, Ignored]]) -> None:
        """Under the lock: whether what was written had an effect. A task whose outcome has none comes again."""
        void = {_key(outcome.task) for outcome, why in ignored if why.without_effect}
        if len(done) > len(void):
            self._written_at, self._void, self._voided = self._clock.monotonic(), set(), None
        self._voided = next(iter(void & self._void), self._voided)
        self._void |= void

    def came_again(self, tasks: Collection[TaskKey]) -> None:
        """These tasks were held as started once more, although their outcomes were written."""
        self._came_again = next(iter(tasks), None)
        self._judge()

    def _judge(self) -> None:
        """What is parked, and what has been written, say of the worker's troubles."""
        void = self._voided or self._came_again
        if not self._parked and self._troubles.current is None and void is None:
            return
        with self._lock:
            parked = dict(self._parked)
        kept = {run: rest for run, rest in parked.items() if not rest.reason and rest.pause >= LAST_PAUSE}
        if kept:
            run, oldest = min(kept.items(), key=lambda item: item[1].since)
            said = f"the outcomes of {len(kept)} runs wait, of run {run} first: somebody has it locked (see pg_locks)"
            self._troubles.begin(TroubleKind.UNWRITTEN, said, began=oldest.since)
        elif (known := self._troubles.of(TroubleKind.UNWRITTEN)) and known.scope is TroubleScope.SOME:
            self._troubles.end(TroubleKind.UNWRITTEN)
        refused = [rest for rest in parked.values() if rest.reason]
        if void is not None:
            run, step, _ = void
            said = f"recording the outcome of step {step} of run {run} has no effect: its task stays started"
            alone = self._voided is not None
            self._troubles.judge(TroubleKind.OUTCOMES_REFUSED, said, every=alone, moved_at=self._written_at)
            return
        if not refused:
            self._troubles.end(TroubleKind.OUTCOMES_REFUSED)
            return
        # Those since which nothing went through: perhaps nothing does.
        stuck = [rest for rest in refused if rest.since > self._written_at]
        of_all = [rest for rest in stuck if rest.error_type.startswith(_OF_ALL)]
        every = of_all or (stuck if len(stuck) >= ALL_REFUSED else [])
        oldest = min(every or refused, key=lambda rest: rest.since)
        said = f"outcomes of {len(refused)} runs cannot be written, first of {oldest.reason}"
        self._troubles.judge(
            TroubleKind.OUTCOMES_REFUSED,
            with_remedy(said, oldest.error_type),
            every=bool(every),
            moved_at=self._written_at,
            error_type=oldest.error_type,
            began=oldest.since,
        )

    def _park(self, outcomes: Sequence[Outcome], longest: float = LAST_PAUSE, error: Exception | None = None) -> None:
        """The runs of these rest, for longer each time: the error refused them, or somebody has them locked."""
        pauses: list[float] = []
        with self._lock:
            now = self._clock.monotonic()
            for run in dict.fromkeys(outcome.task.run_id for outcome in outcomes):
                parked = self._parked.get(run)
                if parked is None:
                    parked = self._parked[run] = _Parked(now)
                else:
                    parked.pause = min(2 * parked.pause, longest)
                parked.due = now + parked.pause
                pauses.append(parked.pause)
                if error is not None:
                    parked.error_type = error_type(error)
                    parked.reason = f"step {outcomes[0].task.step_slug} of run {run}: {reason_for_logs(error)}"
        for pause in dict.fromkeys(pauses):  # each is due by itself: nobody else may come
            self._again(pause)

    def _settle(self, line: _Line, batch: Sequence[Outcome]) -> Settled:
        """Those of the batch that somebody's lock keeps from being written; the others are.

        Raises Unwritten where that may pass; then less is written at a time where it took too long, and one that is
        alone gets longer.
        """
        began = self._clock.monotonic()
        try:
            settle = self._store.settle
            locked = settle(batch, line.answers, True) if line.parked else settle(batch, line.answers)
        except DatabaseError as error:
            if not (error.connection_lost or error.timed_out or (error.sqlstate or "").startswith(_PASSING_ERRORS)):
                raise
            said, lost = reason_for_logs(error), error.connection_lost
            if not (lost or line.parked):
                self._troubles.begin(
                    TroubleKind.UNWRITTEN,
                    with_remedy(f"{len(self)} outcomes wait to be written: {said}", error_type(error)),
                    scope=TroubleScope.ALL,
                    error_type=error_type(error),
                    began=began,
                )
            elif self._breaks.note_failure(lost=lost, away=self._away()) and self._stalled.note("stalled"):
                self._log.warning("%d outcomes wait to be written: %s", len(self), said)
            if lost or error.timed_out:
                if line.size > 1:
                    line.size = max(1, len(batch) // 2)
                else:
                    line.answers = min(2 * line.answers, LONGEST)
            raise Unwritten(error) from error
        self._breaks.over()
        line.size, line.answers = min(2 * line.size, BATCH), 1.0
        if (known := self._troubles.of(TroubleKind.UNWRITTEN)) and known.scope is TroubleScope.ALL:
            self._troubles.end(TroubleKind.UNWRITTEN)
        return locked if isinstance(locked, Settled) else Settled(locked)

    def _write_refused(self, outcome: Outcome, error: Exception) -> bool:
        """Somebody took exception to this outcome: to its data for good, to anything else for now."""
        instead = _instead_of(outcome, error) if _of_data(error) else None
        with self._lock:
            self._take_out([outcome])
            self._waiting.append(instead or outcome)
        if instead is None:
            self._park([outcome], REFUSED_PAUSE, error)
            self._judge()
        elif outcome.kind is OutcomeKind.COMPLETED:
            self._failed(instead)
        return True

    def _tell_ignored(self, ignored: Sequence[tuple[Outcome, Ignored]]) -> dict[int, Outcome]:
        """What becomes of each that pgflow ignored, by the identity of what it was."""
        for outcome, why in ignored:
            tell = self._log.info if why.usual else self._log.warning
            task = outcome.task
            tell("the outcome of step %s of run %s was ignored: %s", task.step_slug, task.run_id, why)
        return {id(outcome): replace(outcome, kind=OutcomeKind.IGNORED) for outcome, _ in ignored}

    def _take_out(self, outcomes: Sequence[Outcome]) -> None:
        """Under the lock: these wait no more. They are told apart by what they are, not by what they are like."""
        ids = {id(outcome) for outcome in outcomes}
        while self._waiting and id(self._waiting[0]) in ids:
            ids.discard(id(self._waiting.popleft()))
        if ids:
            self._waiting = deque(outcome for outcome in self._waiting if id(outcome) not in ids)


class Unwritten(Exception):  # noqa: N818 - what became of them, no error of its own
    """The outcomes are kept, for what kept them from being written may pass."""

    def __init__(self, error: DatabaseError) -> None:
        super().__init__(str(error))
        self.connection_lost = error.connection_lost


def _key(task: Task) -> TaskKey:
    return task.run_id, task.step_slug, task.task_index


def _of_data(error: Exception) -> bool:
    if isinstance(error, DatabaseError):
        return (error.sqlstate or "").startswith(_DATA_ERRORS)
    return isinstance(error, ValueError | TypeError)  # the driver's: it has no form for this


def _instead_of(outcome: Outcome, error: Exception) -> Outcome | None:
    """The nearest outcome that may be taken; None after the last."""
    if outcome.kind is OutcomeKind.COMPLETED:
        return failed(outcome.task, f"the handler's output cannot be stored: {error}", type(error).__name__)
    plain = outcome.error.encode("ascii", "backslashreplace").decode()
    if plain != outcome.error:  # the database's own encoding may have no such character
        return replace(outcome, error=plain)
    if outcome.kind is OutcomeKind.FAILED:  # the delay of its retry is more than an integer holds
        return replace(outcome, kind=OutcomeKind.FAILED_FOR_GOOD)
    return None
