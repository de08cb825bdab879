"""`Outbox`: outcomes on their way into the database, written by whoever is there.

A task's thread puts its outcome in and, when nobody is writing, writes all that is there; outcomes that come meanwhile
are the next batch. So there is no thread that waits, and the busier the workers the larger the batches. What cannot be
written stays, in order, and is written again: doing it twice is no harm.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from pgflow_starter.actors.module_log import ModuleLog
from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.news import News
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.ports import TaskStore
from pgflow_starter.worker.execution import failed

BATCH = 50

LONGEST = 32
"""Times as long as a server may be silent: what a single outcome gets at most."""

_DATA_ERRORS = ("22", "54")  # data exceptions and program limits, by SQLSTATE class


class Outbox:
    """Outcomes of one worker. `settled(outcomes)` is told of those that are written, `stuck()` when some could not be.

    Thread-safe.
    """

    def __init__(
        self,
        store: TaskStore,
        settled: Callable[[Sequence[Outcome]], None],
        stuck: Callable[[], None],
        log: ModuleLog,
    ) -> None:
        self._store = store
        self._settled = settled
        self._stuck = stuck
        self._log = log
        self._stalled = News()
        self._refused: set[tuple[int, str]] = set()
        self._waiting: deque[Outcome] = deque()
        self._writing = threading.Lock()
        self._called = False
        self._size = BATCH
        self._answers = 1

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, outcome: Outcome) -> None:
        """Add an outcome and write what is there, unless another thread is at it. Blocks on I/O."""
        self.add(outcome)
        self.flush()

    def add(self, outcome: Outcome) -> None:
        """Add an outcome; somebody must `flush`."""
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
        """The tasks whose outcomes wait."""
        return [o.task for o in list(self._waiting)]

    def flush(self, *, wait: bool = False) -> bool:
        """Write what is there; when another thread is at it leave it to that one, unless `wait`.

        False when something could not be written.
        """
        # Checked again after each release: an outcome put in while its writer was leaving must not wait for the next.
        tries = 2
        while self._waiting and self._writing.acquire(blocking=wait):
            written: list[Outcome] = []
            try:
                complete = self._write_batch(written)
            except ConnectionLost:
                complete = False
                tries -= 1
                if tries:
                    continue  # the database may be there, and what was written may be so again
            finally:
                self._writing.release()
                if written:
                    self._tell_written(written)
                    self._settled(written)
            if not complete:
                self._stuck()
                return False
        return True

    def _write_batch(self, written: list[Outcome]) -> bool:
        """Write what is there, and say what of it is `written`; False where something could not be."""
        batch = list(self._waiting)[: self._size]
        if not batch:
            return True
        try:
            self._settle(batch)
        except ConnectionLost:
            raise
        except Exception as error:
            if len(batch) > 1:
                return self._write_singly(batch, written)
            return self._write_refused(batch[0], error)
        self._drop(batch)
        written += batch
        return True

    def _settle(self, batch: Sequence[Outcome]) -> None:
        """Raises ConnectionLost where it broke; then less is written at a time, and one that is alone gets longer.

        For what breaks it may be our own limit to how long a server may be silent.
        """
        try:
            self._store.settle(batch, self._answers)
        except DatabaseError as error:
            if not error.connection_lost:
                raise
            if self._stalled.says("stalled"):
                self._log.warning("%d outcomes wait to be written: %s", len(self._waiting), error)
            if self._size > 1:
                self._size = max(1, len(batch) // 2)
            else:
                self._answers = min(2 * self._answers, LONGEST)
            raise ConnectionLost from error
        self._size, self._answers = min(2 * self._size, BATCH), 1

    def _write_singly(self, batch: Sequence[Outcome], written: list[Outcome]) -> bool:
        """One of the batch was refused, and with it all: write each by itself, and put the refused ones last."""
        complete = True
        for outcome in batch:
            try:
                self._settle([outcome])
            except ConnectionLost:
                raise
            except Exception as error:
                complete = self._write_refused(outcome, error) and complete
                continue
            self._drop([outcome])
            written.append(outcome)
        return complete

    def _write_refused(self, outcome: Outcome, error: Exception) -> bool:
        """Somebody took exception to this outcome: to its data for good, to anything else for now."""
        self._drop([outcome])
        instead = _instead_of(outcome, error) if _of_data(error) else None
        if instead is None:
            self._tell_refused(outcome.task, error)
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
        for outcome in outcomes:
            self._waiting.remove(outcome)


class ConnectionLost(Exception):  # noqa: N818 - what became of it, no error of its own
    """The outcomes are kept."""


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
