"""`Tally`: what became of attempts and of runs, to be counted by whoever listens.

Which outcome is its run's last only the database knows. It is asked afterwards, of some at a time, and says it to one
process only: that whose task it was.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

from pgflow_starter.clock import Timers
from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.definition import FlowDefinition, StepKind, conditions_of
from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.errors import PgflowError
from pgflow_starter.threads.cache import ThreadCache, run_patiently
from pgflow_starter.worker.poll_intervals import retry_delay

if TYPE_CHECKING:
    from pgflow_starter.ports import RunEndStore, TallyObserver

logger = logging.getLogger("pgflow_starter.workers")

INTERVAL = 2.0
"""Seconds after which it is asked, while tasks end; and until it is asked again where that failed."""

BATCH = 2000
"""Tasks that are asked for at a time, and those of the last one's run that are left."""

ENDS = ("completed", "failed")

LAST = 20_000
"""Tasks that are asked for at the end, in one go."""

MOST = 200_000
"""Tasks that are kept to be asked for: those that came first are forgotten then, and their runs not counted."""


class Tally:
    """One per starter. Thread-safe; `note` does not wait. Where nobody listens it keeps nothing and asks nothing."""

    def __init__(self, store: RunEndStore, observer: TallyObserver, timers: Timers, threads: ThreadCache) -> None:
        self._store = store
        self._observer = observer
        self._timers = timers
        self._threads = threads
        self._asking = threading.Lock()
        self._lock = threading.Lock()  # around the next three
        self._tasks: deque[TaskKey] = deque(maxlen=MOST)
        self._workers = frozenset[UUID]()
        self._armed = False
        self._known: set[str] = set()

    def note(self, definition: FlowDefinition, outcomes: Sequence[Outcome], workers: Collection[UUID]) -> None:
        """These outcomes of that flow are written, of tasks of these workers; none where its worker begins."""
        if not self._observer.heard:
            return
        if definition.slug not in self._known:
            self._known.add(definition.slug)
            for status in ENDS:  # from none: who looks at what is added would not see the first
                self._observer.runs_ended(definition.slug, status, 0)
        ends: list[TaskKey] = []
        for outcome in outcomes:
            if retries(definition, outcome):
                self._observer.retried(outcome.task)
            elif may_end_run(definition, outcome):
                ends.append(outcome.task.key)
        if ends:
            self._keep(ends, workers)

    def note_ended(self, runs: Sequence[EndedRun]) -> None:
        """These have ended, and with no outcome of a task."""
        if self._observer.heard:
            for run in runs:
                self._observer.runs_ended(run.flow_slug, run.status, 1)

    def close(self) -> None:
        """Ask for the last of them, the latest where they are many. Blocks on I/O; raises nothing."""
        with self._asking, self._lock:
            tasks = sorted(islice(reversed(self._tasks), LAST))
        try:
            self._count(tasks)
        except PgflowError as error:
            logger.debug("how the last runs ended could not be looked up: %s", reason_for_logs(error))

    def _keep(self, tasks: Sequence[TaskKey], workers: Collection[UUID] = ()) -> None:
        with self._lock:
            self._tasks.extend(tasks)
            if not self._workers.issuperset(workers):
                self._workers = self._workers.union(workers)
            arm, self._armed = not self._armed, True
        if arm:
            self._timers.after(INTERVAL, partial(run_patiently, self._threads, self._timers, self._ask))

    def _ask(self) -> None:
        with self._asking:
            with self._lock:
                tasks, self._armed = sorted(self._tasks), False
                self._tasks.clear()
            while tasks:
                some = _whole_runs(tasks)
                try:
                    self._count(some)
                except PgflowError as error:
                    logger.debug("how runs ended could not be looked up: %s", reason_for_logs(error))
                    return self._keep(tasks)
                del tasks[: len(some)]
            return None

    def _count(self, tasks: Sequence[TaskKey]) -> None:
        if tasks:
            for (flow_slug, status), count in self._store.ended_by(tasks, self._workers).items():
                self._observer.runs_ended(flow_slug, status, count)


def _whole_runs(tasks: Sequence[TaskKey]) -> Sequence[TaskKey]:
    """The first of these, in order of their runs: of one that ended with several of them it is counted once."""
    end = BATCH
    while end < len(tasks) and tasks[end][0] == tasks[end - 1][0]:
        end += 1
    return tasks[:end]


def retries(definition: FlowDefinition, outcome: Outcome) -> bool:
    """Whether the task has another attempt."""
    step = definition.step(outcome.task.step_slug)
    if outcome.kind is not OutcomeKind.FAILED or step is None:
        return False
    return retry_delay(definition, step, outcome.task.attempt) is not None


def may_end_run(definition: FlowDefinition, outcome: Outcome) -> bool:
    """Whether the run may have ended with it: where no step follows, or one that could not begin or is skipped."""
    if outcome.kind in (OutcomeKind.SNOOZED, OutcomeKind.IGNORED):
        return False
    follow = [step for step in definition.steps if outcome.task.step_slug in step.depends_on]
    return (
        outcome.kind is not OutcomeKind.COMPLETED
        or not follow
        or any(step.kind is StepKind.MAP for step in follow)
        or any(map(conditions_of, definition.steps))
    )
