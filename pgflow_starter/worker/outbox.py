"""`Outbox`: outcomes on their way into the database, written by the thread that is there.

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
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.said_once import Breaks, SaidOnce
from pgflow_starter.core.task import Ignored, Outcome, OutcomeKind, Settled, Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.worker.execution import storable_instead
from pgflow_starter.worker.outcome_troubles import OutcomeTroubles
from pgflow_starter.worker.parked_runs import ParkedRuns
from pgflow_starter.worker.troubles import Troubles

if TYPE_CHECKING:
    from pgflow_starter.ports import TaskStore

BATCH = 100

LONGEST = 32.0
"""Times the usual limit that a single outcome gets at most."""

PARKED_FREE = 1000
"""Parked outcomes that keep a worker from nothing; those beyond count as others that wait."""

_PASSING_ERRORS = ("40", "55", "57")  # a deadlock, a lock, an operator


class _Line:
    """Who writes, and how much at a time: of what is parked, or of all else. Neither waits for the other."""

    __slots__ = ("answers", "parked", "size", "writing")

    def __init__(self, *, parked: bool) -> None:
        self.parked = parked
        self.writing = threading.Lock()
        self.size = BATCH
        self.answers = 1.0


class _Written(list[Outcome]):
    """The outcomes that are, and the runs that have `ended` by them."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[EndedRun] = []


class Outbox:
    """Outcomes of one worker. Thread-safe.

    `settled(outcomes)` is called with those that are written, as `IGNORED` with those that pgflow ignored;
    `again(seconds)` has somebody flush then, for some could not be, None: when the worker thinks fit. `failed(outcome)`
    is called with one that was completed and cannot be stored, `ended` with the runs of a `Settled`; `away` tells an
    outage.
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
        ended: Callable[[Sequence[EndedRun]], object],
        away: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._settled = settled
        self._again = again
        self._log = log
        self._troubles = OutcomeTroubles(troubles, clock)
        self._failed = failed
        self._ended = ended
        self._stalled, self._breaks = SaidOnce(), Breaks()
        self._away = away
        self._lock = threading.Lock()  # around the next two lines'
        self._waiting: deque[Outcome] = deque()
        self._parked = ParkedRuns()
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
        except RuntimeError:  # no thread to be had: the caller does it when it has the time
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

        False when something could not be written. One that waits does not wait for what is parked to be due.
        """
        complete = self._flush(self._line, wait)
        if self._parked:
            complete = self._flush(self._parked_line, wait) and complete
        return complete and not (wait and self._waiting)

    def _flush(self, line: _Line, wait: bool) -> bool:
        # Checked again after each release: an outcome put in while its writer was leaving must not wait for the next.
        tries, all_of_it = 2, wait
        while self._next_batch(line, all_of_it) and line.writing.acquire(blocking=wait):
            complete, written = False, _Written()
            try:
                self._write(line, self._next_batch(line, all_of_it), written)
                complete = True
            except Unwritten as unwritten:
                tries -= 1
                if tries and unwritten.connection_lost:
                    continue  # the database may be there, and what was written may be so again
            finally:
                line.writing.release()
                if written:
                    if self._stalled.clear():
                        self._log.info("outcomes are written again")
                    self._settled(written)
                if written.ended:
                    self._ended(written.ended)
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
            if not line.parked:
                batch = (o for o in self._waiting if o.task.run_id not in self._parked)
            else:
                due = self._parked.due(inf if all_of_it else self._clock.monotonic())
                batch = (o for o in self._waiting if o.task.run_id in due)
            return list(islice(batch, line.size))

    def _write(self, line: _Line, batch: list[Outcome], written: _Written) -> None:
        """Write these, and say what of it is `written`. Raises Unwritten."""
        if not batch:
            return
        try:
            locked = self._settle(line, batch)
        except Unwritten:
            if not line.parked:
                raise
            self._park(batch)
        except Exception as error:
            if len(batch) == 1:
                self._refused(batch[0], error)
            else:  # one of them was refused, and with it all
                self._write_singly(line, batch, written)
        else:
            self._sort_out(batch, locked, written)

    def _write_singly(self, line: _Line, batch: Sequence[Outcome], written: _Written) -> None:
        for outcome in batch:
            try:
                locked = self._settle(line, [outcome])
            except Unwritten:
                raise
            except Exception as error:
                self._refused(outcome, error)
            else:
                self._sort_out([outcome], locked, written)

    def _sort_out(self, batch: Sequence[Outcome], locked: Settled, written: _Written) -> None:
        """All of the batch are written, but those that somebody's lock kept from it: their runs are parked."""
        kept = {id(outcome) for outcome in locked}
        done = [outcome for outcome in batch if id(outcome) not in kept]
        with self._lock:
            self._take_out(done)
            if self._parked:
                self._parked.keep({outcome.task.run_id for outcome in self._waiting})
            self._troubles.count(done, locked.ignored)
        if locked:
            self._park(locked)
        self._judge()
        ignored = self._mark_ignored(locked.ignored)
        written += [ignored.get(id(outcome), outcome) for outcome in done]
        written.ended += locked.ended

    def came_again(self, tasks: Collection[TaskKey]) -> None:
        """These tasks were held as started once more, although their outcomes were written."""
        self._troubles.came_again(tasks)
        self._judge()

    def _judge(self) -> None:
        if self._parked or not self._troubles.none_to_judge():
            with self._lock:
                parked = dict(self._parked)
            self._troubles.judge(parked)

    def _park(self, outcomes: Sequence[Outcome], error: Exception | None = None) -> None:
        with self._lock:
            pauses = self._parked.park(outcomes, self._clock.monotonic(), error)
        for pause in pauses:  # each is due by itself: nobody else may come
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
            lost = error.connection_lost
            if not (lost or line.parked):
                self._troubles.wait(len(self), error, began)
            elif self._breaks.note_failure(lost=lost, away=self._away()) and self._stalled.note("stalled"):
                self._log.warning("%d outcomes wait to be written: %s", len(self), reason_for_logs(error))
            if error.connection_lost or error.timed_out:
                if line.size > 1:
                    line.size = max(1, len(batch) // 2)
                else:
                    line.answers = min(2 * line.answers, LONGEST)
            raise Unwritten(error) from error
        self._breaks.succeeded()
        line.size, line.answers = min(2 * line.size, BATCH), 1.0
        self._troubles.go_through()
        return locked if isinstance(locked, Settled) else Settled(locked)

    def _refused(self, outcome: Outcome, error: Exception) -> None:
        """Somebody took exception to this outcome: to its data for good, to anything else for now."""
        instead = storable_instead(outcome, error)
        with self._lock:
            self._take_out([outcome])
            self._waiting.append(instead or outcome)
        if instead is None:
            self._park([outcome], error)
            self._judge()
        elif outcome.kind is OutcomeKind.COMPLETED:
            self._failed(instead)

    def _mark_ignored(self, ignored: Sequence[tuple[Outcome, Ignored]]) -> dict[int, Outcome]:
        """What becomes of each that pgflow ignored, by the identity of what it was."""
        for outcome, why in ignored:
            log, task = self._log.info if why.usual else self._log.warning, outcome.task
            log("the outcome of step %s of run %s was ignored: %s", task.step_slug, task.run_id, why)
        return {id(outcome): outcome._replace(kind=OutcomeKind.IGNORED) for outcome, _ in ignored}

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
