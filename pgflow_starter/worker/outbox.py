"""`Outbox`: outcomes on their way into the database, written by whoever is there.

A task's thread puts its outcome in and, when nobody is writing, writes all that is there; outcomes that come meanwhile
are the next batch. So there is no thread that waits, and the busier the workers the larger the batches. What cannot be
written stays, in order, and is written again: doing it twice is no harm.

The outcomes of a run that somebody has locked are parked, and come again by themselves: nobody else's wait for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from uuid import UUID

from pgflow_starter.actors.module_log import ModuleLog
from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.news import News
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.ports import Clock, TaskStore
from pgflow_starter.worker.execution import failed

BATCH = 50

LONGEST = 32.0
"""Times the usual limit that a single outcome gets at most."""

FIRST_PAUSE, LAST_PAUSE = 0.02, 2.0
"""Seconds until the outcomes of a run that was locked are tried again: at first, and when it has been for long."""

PARKED_FREE = 1000
"""Parked outcomes that keep a worker from nothing; those beyond count as others that wait."""

_DATA_ERRORS = ("22", "54")  # data exceptions and program limits, by SQLSTATE class
_PASSING_ERRORS = ("40", "55", "57")  # a deadlock, a lock, an operator


class _Parked:
    """The outcomes of one run, and when they are tried again (monotonic clock)."""

    __slots__ = ("due", "outcomes", "pause")

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.pause = FIRST_PAUSE / 2
        self.due = 0.0


class Outbox:
    """Outcomes of one worker. Thread-safe.

    `settled(outcomes)` is told of those that are written; `again(seconds)` has somebody flush then, for some could not
    be, None: when the worker thinks fit.
    """

    def __init__(
        self,
        store: TaskStore,
        clock: Clock,
        settled: Callable[[Sequence[Outcome]], None],
        again: Callable[[float | None], None],
        log: ModuleLog,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settled = settled
        self._again = again
        self._log = log
        self._stalled, self._locked = News(), News()
        self._refused: set[tuple[int, str]] = set()
        self._waiting: deque[Outcome] = deque()
        self._parked: dict[UUID, _Parked] = {}
        self._moving = threading.Lock()
        self._writing = threading.Lock()
        self._called = False
        self._size = BATCH
        self._answers = 1.0

    def __len__(self) -> int:
        return len(self._waiting) + self.parked

    @property
    def parked(self) -> int:
        """Outcomes whose run somebody has locked."""
        with self._moving:
            return sum(len(parked.outcomes) for parked in self._parked.values())

    @property
    def weight(self) -> int:
        """Outcomes for whose sake a worker should claim less."""
        return len(self._waiting) + (max(0, self.parked - PARKED_FREE) if self._parked else 0)

    def put(self, outcome: Outcome) -> None:
        """Add an outcome and write what is there, unless another thread is at it. Blocks on I/O."""
        self.add(outcome)
        self.flush()

    def add(self, outcome: Outcome) -> None:
        """Add an outcome; somebody must `flush`."""
        with self._moving:
            self._waiting.append(outcome)

    def flush_soon(self, run: Callable[[Callable[[], object]], object]) -> None:
        """Have another thread, which `run` brings, write what is there, unless one is at it or on its way."""
        if self._called or self._writing.locked():
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
        with self._moving:
            outcomes = list(self._waiting)
            for parked in self._parked.values():
                outcomes += parked.outcomes
        return [outcome.task for outcome in outcomes]

    def flush(self, *, wait: bool = False) -> bool:
        """Write what is there; when another thread is at it leave it to that one, unless `wait`.

        False when something could not be written. Who waits does not wait for what is parked to be due.
        """
        # Checked again after each release: an outcome put in while its writer was leaving must not wait for the next.
        tries = 2
        while (self._waiting or self._due(wait)) and self._writing.acquire(blocking=wait):
            written: list[Outcome] = []
            try:
                complete = self._write_batch(written) and self._write_parked(written, self._due(wait))
            except Unwritten as unwritten:
                complete = False
                tries -= 1
                if tries and unwritten.connection_lost:
                    continue  # the database may be there, and what was written may be so again
            finally:
                self._writing.release()
                if written:
                    self._tell_written(written)
                    self._settled(written)
            if not complete:
                self._again(None)
                return False
            if wait and not self._waiting:
                break
        return not (wait and len(self))

    def _due(self, wait: bool) -> list[UUID]:
        """The runs whose parked outcomes are to be tried."""
        if not self._parked:
            return []
        now = self._clock.monotonic()
        with self._moving:
            return [run for run, parked in self._parked.items() if wait or parked.due <= now]

    def _write_batch(self, written: list[Outcome]) -> bool:
        """Write what is there, and say what of it is `written`; False where something could not be."""
        batch = self._next_batch()
        if not batch:
            return True
        try:
            locked = self._settle(batch)
        except Unwritten:
            raise
        except Exception as error:
            if len(batch) > 1:
                return self._write_singly(batch, written)
            return self._write_refused(batch[0], error)
        self._sort_out(batch, locked, written)
        return True

    def _next_batch(self) -> list[Outcome]:
        """The next that wait; those of a run that is parked join it there."""
        if self._parked:
            with self._moving:
                joining = [outcome for outcome in self._waiting if outcome.task.run_id in self._parked]
                for outcome in joining:
                    self._parked[outcome.task.run_id].outcomes.append(outcome)
                self._take_out(joining)
        with self._moving:
            return list(islice(self._waiting, self._size))

    def _sort_out(self, batch: Sequence[Outcome], locked: Sequence[Outcome], written: list[Outcome]) -> None:
        """All of the batch are written, but those that somebody's lock kept from it: they are parked."""
        kept = {id(outcome) for outcome in locked}
        if kept:
            self._park(locked)
        done = [outcome for outcome in batch if id(outcome) not in kept]
        self._drop(done)
        written += done

    def _park(self, outcomes: Sequence[Outcome]) -> None:
        with self._moving:
            now = self._clock.monotonic()
            fresh = set()
            for outcome in outcomes:
                run = outcome.task.run_id
                if run not in self._parked:
                    self._parked[run] = _Parked()
                    fresh.add(run)
                self._parked[run].outcomes.append(outcome)
            self._take_out(outcomes)
            for run in fresh:
                self._parked[run].due = now + FIRST_PAUSE
        self._again(FIRST_PAUSE)

    def _write_parked(self, written: list[Outcome], runs: Sequence[UUID]) -> bool:
        """Try what is parked for these runs once more."""
        with self._moving:
            batch = [outcome for run in runs for outcome in self._parked[run].outcomes][:BATCH]
        if not batch:
            return True
        try:
            locked: Sequence[Outcome] = self._settle(batch)
        except Unwritten as unwritten:
            if not unwritten.locked:
                raise
            locked = batch
        except Exception:
            self._unpark(batch)  # to be told apart from the others, and refused
            return True
        kept = {id(outcome) for outcome in locked}
        done = [outcome for outcome in batch if id(outcome) not in kept]
        pause = self._rest({outcome.task.run_id for outcome in locked})
        self._unpark(done)
        self._drop(done)
        written += done
        if pause is not None:
            self._again(pause)
        return True

    def _rest(self, runs: set[UUID]) -> float | None:
        """These are locked still: seconds until the first of them is tried again."""
        with self._moving:
            now, pauses = self._clock.monotonic(), []
            for run in runs:
                parked = self._parked[run]
                parked.pause = min(2 * parked.pause, LAST_PAUSE)
                parked.due = now + parked.pause
                pauses.append(parked.pause)
                if parked.pause >= LAST_PAUSE and self._locked.says(run):
                    self._log.warning("run %s is locked by somebody: %d outcomes wait", run, len(parked.outcomes))
        return min(pauses, default=None)

    def _unpark(self, outcomes: Sequence[Outcome]) -> None:
        with self._moving:
            ids = {id(outcome) for outcome in outcomes}
            for run in {outcome.task.run_id for outcome in outcomes}:
                self._parked[run].outcomes = [o for o in self._parked[run].outcomes if id(o) not in ids]
                if not self._parked[run].outcomes:
                    del self._parked[run]
            self._waiting.extendleft(reversed(outcomes))
            if not self._parked:
                self._locked.over()

    def _settle(self, batch: Sequence[Outcome]) -> Sequence[Outcome]:
        """Those of the batch that somebody's lock keeps from being written; the others are.

        Raises Unwritten where that may pass; then less is written at a time where it took too long, and one that is
        alone gets longer.
        """
        try:
            locked = self._store.settle(batch, self._answers)
        except DatabaseError as error:
            if not (error.connection_lost or error.timed_out or (error.sqlstate or "").startswith(_PASSING_ERRORS)):
                raise
            if self._stalled.says("stalled"):
                self._log.warning("%d outcomes wait to be written: %s", len(self), reason_for_logs(error))
            if error.connection_lost or error.timed_out:
                if self._size > 1:
                    self._size = max(1, len(batch) // 2)
                else:
                    self._answers = min(2 * self._answers, LONGEST)
            raise Unwritten(error) from error
        self._size, self._answers = min(2 * self._size, BATCH), 1.0
        return locked

    def _write_singly(self, batch: Sequence[Outcome], written: list[Outcome]) -> bool:
        """One of the batch was refused, and with it all: write each by itself, and put the refused ones last."""
        complete = True
        for outcome in batch:
            try:
                locked = self._settle([outcome])
            except Unwritten:
                raise
            except Exception as error:
                complete = self._write_refused(outcome, error) and complete
                continue
            self._sort_out([outcome], locked, written)
        return complete

    def _write_refused(self, outcome: Outcome, error: Exception) -> bool:
        """Somebody took exception to this outcome: to its data for good, to anything else for now."""
        instead = _instead_of(outcome, error) if _of_data(error) else None
        if instead is None:
            self._tell_refused(outcome.task, error)
        with self._moving:
            self._take_out([outcome])
            self._waiting.append(instead or outcome)
        return instead is not None

    def _tell_refused(self, task: Task, error: Exception) -> None:
        refused = (id(task), error_type(error))
        if refused not in self._refused:
            self._refused.add(refused)
            self._log.error("an outcome of step %s was refused: %s", task.step_slug, reason_for_logs(error))

    def _tell_written(self, written: Sequence[Outcome]) -> None:
        """What was told of these is over."""
        if self._refused:
            ids = {id(outcome.task) for outcome in written}
            self._refused = {refused for refused in self._refused if refused[0] not in ids}
        if self._stalled.over():
            self._log.info("outcomes are written again")

    def _drop(self, outcomes: Sequence[Outcome]) -> None:
        with self._moving:
            self._take_out(outcomes)

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
        self.locked = error.locked


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
