"""`Stage`: a starter that says what a test wants it to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pgflow_starter import (
    ChildInfo,
    FastLaneState,
    FlowDefinition,
    ModuleError,
    ModuleState,
    ModuleStatus,
    Outage,
    PgflowError,
    RunNotFoundError,
    RunSummary,
    ScheduleResult,
    ScheduleState,
    StarterStatus,
    StepDefinition,
    StepSummary,
    WorkerState,
)
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.runs import RunStatus
from pgflow_starter.core.state import ErrorClass, ModuleType
from pgflow_starter.core.views import DoneBefore, Failing, FlowQueue, RunsPage, RunsWanted, RunView, WorkerRow

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class StageViews:
    """What the stage's database says; where its runs are an error, that of all that it is asked."""

    stage: Stage

    def runs(self, wanted: RunsWanted, *, patience: float) -> RunsPage:
        runs = self.stage.answer(patience)
        return self.stage.pages.get(wanted) or RunsPage(runs[: wanted.limit])

    def run(self, run_id: UUID, *, payloads: bool, patience: float) -> RunView | None:
        self.stage.answer(patience)
        return self.stage.run_views.get(run_id)

    def queues(self, *, patience: float) -> Sequence[FlowQueue]:
        self.stage.answer(patience)
        return self.stage.queues

    def done_before(self, queues: Sequence[str], *, every: int, slots: int, patience: float) -> Sequence[DoneBefore]:
        self.stage.answer(patience)
        return ()

    def workers(self, *, patience: float) -> Sequence[WorkerRow]:
        self.stage.answer(patience)
        return self.stage.worker_rows

    def failing(self, *, patience: float) -> Failing:
        self.stage.answer(patience)
        return self.stage.failing


@dataclass(eq=False)
class Stage:
    """Fulfils `web.Source`; what is set on it is told at once. `end` lets it be stopped or terminated."""

    modules: tuple[ModuleState, ...] = ()
    workers_: tuple[WorkerState, ...] = ()
    children: tuple[ChildInfo, ...] = ()
    flows: tuple[FlowDefinition, ...] = ()
    outage: Outage | None = None
    fast_lane: FastLaneState | None = None
    schedules: tuple[ScheduleState, ...] = ()
    runs: tuple[RunSummary, ...] | PgflowError = ()
    pages: dict[RunsWanted, RunsPage] = field(default_factory=dict)
    run_views: dict[UUID, RunView] = field(default_factory=dict)
    queues: tuple[FlowQueue, ...] = ()
    worker_rows: tuple[WorkerRow, ...] = ()
    failing: Failing = field(default_factory=Failing)
    end: PgflowError | None = None
    started_at: datetime = STARTED
    asked: list[float] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    @property
    def views(self) -> StageViews:
        self._check()
        return StageViews(self)

    def answer(self, patience: float) -> tuple[RunSummary, ...]:
        """Of its database, to any question."""
        self.asked.append(patience)
        if isinstance(self.runs, PgflowError):
            raise self.runs
        return self.runs

    @property
    def client(self) -> Stage:
        self._check()
        return self

    def cancel(self, run_id: UUID, reason: str) -> RunSummary:
        self.done.append(f"cancel {run_id}: {reason}")
        return self._run(run_id)

    def rerun(self, run_id: UUID) -> RunSummary:
        self.done.append(f"rerun {run_id}")
        return self._run(run_id)

    def module_status(self, module: str) -> ModuleState | None:
        self._check()
        return next((m for m in self.modules if m.module == module), None)

    def retry_now(self, module: str) -> None:
        self.done.append(f"retry {module}")

    def status(self) -> StarterStatus:
        self._check()
        return StarterStatus(
            self.ready(),
            self.healthy(),
            self.started_at,
            None,
            self.modules,
            self.outage,
            self.fast_lane,
            self.schedules,
        )

    def ready(self) -> bool:
        self._check()
        return all(m.status.terminal for m in self.modules)

    def healthy(self) -> bool:
        self._check()
        return not self.modules or any(m.status is ModuleStatus.SUCCEEDED for m in self.modules)

    def workers(self) -> tuple[WorkerState, ...]:
        self._check()
        return self.workers_

    def which_children(self) -> tuple[ChildInfo, ...]:
        self._check()
        return self.children

    def definitions(self) -> tuple[FlowDefinition, ...]:
        self._check()
        return self.flows

    def _run(self, run_id: UUID) -> RunSummary:
        runs = () if isinstance(self.runs, PgflowError) else self.runs
        for run in runs:
            if run.id == run_id:
                return run
        raise RunNotFoundError(f"there is no run {run_id}")

    def _check(self) -> None:
        if self.end is not None:
            raise self.end


def module(name: str, status: str = "succeeded", *, reason: str = "", code: str = "55P03", **more: Any) -> ModuleState:
    """A module; with a reason it has an error, and `retrying` has it tried again in 20 seconds."""
    now = SystemClock().now()
    kind = ErrorClass.PERMANENT if status == "failed_permanent" else ErrorClass.TRANSIENT
    error = ModuleError(kind, Phase.WORKER, reason, code, now) if reason else None
    state = ModuleState(name, name, ModuleType.FLOW, ModuleStatus(status), 1, None, error, None, now)
    state = replace(state, failing_since=now if reason else None)
    if status == "retrying":
        state = replace(state, attempts=7, next_attempt_at=now + timedelta(seconds=20))
    return replace(state, **more)


def worker(slug: str, **more: Any) -> WorkerState:
    """A worker that has nothing to do."""
    return replace(WorkerState(slug, UUID(int=7), True, 10, 0, 0, 0, 0, 0, False), **more)


def schedule(name: str, *, error: str | None = None, **more: Any) -> ScheduleState:
    """A schedule that was due a minute ago; with an error that tick could not be started."""
    now = SystemClock().now()
    state = ScheduleState(
        name, name, "0 7 * * *", "Europe/Berlin", now + timedelta(hours=3), now - timedelta(minutes=1)
    )
    if error is not None:
        return replace(state, last_result=ScheduleResult.FAILED, last_error=error, **more)
    return replace(
        state, **{"last_run_id": UUID(int=9), "last_result": ScheduleResult.STARTED, "last_late": 0.01, **more}
    )


def tree(names: Sequence[str], restarts: int = 0) -> tuple[ChildInfo, ...]:
    """The supervision tree of a starter with these modules."""
    return (
        ChildInfo("root", None, "supervisor", 0, True),
        *(ChildInfo(name, "root", "worker", 0, True) for name in ("timers", "database", "listener", "housekeeper")),
        ChildInfo("workers", "root", "supervisor", 0, True),
        ChildInfo("modules", "root", "supervisor", 0, True),
        ChildInfo("starter", "root", "worker", restarts, True),
        *(ChildInfo(name, "workers", "worker", restarts, True) for name in names),
        *(ChildInfo(f"{name}#{i}", "modules", "worker", 0, True) for i, name in enumerate(names)),
    )


def flow(slug: str, steps: dict[str, list[str]], kind: str = "flow") -> FlowDefinition:
    """A flow of these steps and what each depends on; a name that begins with `each` is a map step."""
    return FlowDefinition(
        slug,
        tuple(
            StepDefinition(name, lambda i, c: None, depends_on=tuple(on), kind="map" if "each" in name else "single")  # type: ignore[arg-type]
            for name, on in steps.items()
        ),
        kind=ModuleType(kind),
    )


def run(number: int, slug: str, status: RunStatus, steps: dict[str, tuple[Any, int | None, int | None]]) -> RunSummary:
    """A run that began `number` seconds ago."""
    began = SystemClock().now() - timedelta(seconds=number)
    ended = None if status == "started" else began + timedelta(seconds=1.4)
    return RunSummary(
        UUID(int=number + (number << 100)),
        slug,
        status,
        began,
        ended,
        tuple(StepSummary(name, *rest) for name, rest in steps.items()),
    )
