"""An outbox with a store that is told what to do, and tasks and outcomes for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from pgflow_starter import DatabaseError
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.testing import ManualClock, ManualTimers
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.troubles import Troubles

RUN, OTHER = UUID(int=1), UUID(int=2)
LOG = ModuleLog(logging.getLogger("pgflow_starter.workers"), "shop", "shop")


def task(number: int = 0, step: str = "a") -> Task:
    return Task(RUN, "shop", step, number, 100 + number, 2, {"in": 1}, {"flow": 1})


def completed(number: int) -> Outcome:
    return Outcome(task(number), OutcomeKind.COMPLETED, str(number))


class Store:
    """Settles into a list; `refuse` is asked first."""

    def __init__(self) -> None:
        self.settled: list[Outcome] = []
        self.calls: list[int] = []
        self.answers: list[float] = []
        self.refuse: Callable[[Sequence[Outcome]], Exception | None] = lambda _: None
        self.locked: set[UUID] = set()

    def settle(self, outcomes: Sequence[Outcome], answers: float, careful: bool = False) -> Sequence[Outcome]:
        self.calls.append(len(outcomes))
        self.answers.append(answers)
        if error := self.refuse(outcomes):
            raise error
        self.settled += [o for o in outcomes if o.task.run_id not in self.locked]
        return [o for o in outcomes if o.task.run_id in self.locked]

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class Rig:
    def __init__(self) -> None:
        self.store: Any = Store()
        self.told: list[Outcome] = []
        self.failed: list[Outcome] = []
        self.ended: list[EndedRun] = []
        self.when_ended: Callable[[], object] = lambda: None
        self.away = False
        self.stuck = 0
        self.pauses: list[float] = []
        self.clock = ManualClock()
        self.troubles = Troubles(self.clock, ManualTimers(), LOG, lambda: None, lambda: False)
        self.outbox = Outbox(
            self.store,
            self.clock,
            self.told.extend,
            self._again,
            LOG,
            self.troubles,
            failed=self.failed.append,
            ended=self._ended,
            away=lambda: self.away,
        )

    def put(self, outcome: Outcome) -> None:
        """As a task's thread does."""
        self.outbox.add(outcome)
        self.outbox.flush()

    def _ended(self, runs: Sequence[EndedRun]) -> None:
        self.when_ended()
        self.ended += runs

    def _again(self, seconds: float | None) -> None:
        if seconds is None:
            self.stuck += 1
        else:
            self.pauses.append(seconds)

    def numbers(self) -> list[int]:
        return [o.task.task_index for o in self.store.settled]


def lost(_: Sequence[Outcome]) -> DatabaseError:
    return DatabaseError("gone", error_type="OperationalError", connection_lost=True)


def of_run(run: UUID, number: int) -> Outcome:
    return Outcome(task(number)._replace(run_id=run), OutcomeKind.COMPLETED, str(number))
