"""A worker's cell with its claims, threads and outcomes, moved by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from pgflow_starter import FlowDefinition, StepDefinition
from pgflow_starter.core.failure import Failures
from pgflow_starter.core.phases import SignalStrategy
from pgflow_starter.core.task import Claimed, Outcome, Task
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.providers import Providers
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.lane import LaneCall
from pgflow_starter.worker.cell import WorkerCell
from pgflow_starter.worker.poll_intervals import PollPolicy
from pgflow_starter.worker.tally import Tally
from pgflow_starter.worker.world import WorkerWorld


class Store:
    """Has so many tasks, each of a run of its own, and somebody has all runs locked."""

    def __init__(self, tasks: int) -> None:
        self.tasks = [Task(UUID(int=n + 1), "shop", "a", 0, n + 1, 1, n, None) for n in range(tasks)]

    def claim(self, _definition: FlowDefinition, _worker: UUID, quantity: int, *_: object) -> Claimed:
        claimed, self.tasks = self.tasks[:quantity], self.tasks[quantity:]
        return Claimed(len(claimed), tuple(claimed))

    def settle(self, outcomes: Sequence[Outcome], answers: float, careful: bool = False) -> Sequence[Outcome]:
        return outcomes


class Calls:
    """A lane, and threads, on which nothing begins by itself."""

    def __init__(self) -> None:
        self.waiting = deque[Callable[[], object]]()

    def enter(self, entry: LaneCall) -> None:
        self.waiting.append(entry.call)

    def leave(self, entry: LaneCall) -> None:
        pass

    def run(self, call: Callable[[], object]) -> None:
        self.waiting.append(call)

    def make_all(self) -> None:
        while self.waiting:
            self.waiting.popleft()()


def cell_with(store: Any, calls: Any, handled: list[Any]) -> WorkerCell:
    """A cell with one slot, of a worker that has been wired; its timers stand."""
    timers = ManualTimers()
    unused: Any = SimpleNamespace()
    nobody: Any = SimpleNamespace(heard=False)
    world = WorkerWorld(
        store=store,
        messages=OtelMessages(Providers(timers.clock), timers.clock),
        clock=timers.clock,
        timers=timers,
        threads=calls,
        event_loop=unused,
        dispatcher=unused,
        lane=calls,
        lookout=unused,
        policy=PollPolicy(SignalStrategy.NOTIFY, 1.0, 5.0, 30.0, 0.0),
        batch_size=1,
        shutdown=Shutdown(),
        may_have_ended=lambda runs: None,
        ended=lambda runs: None,
        troubled=lambda slug: None,
        differences=lambda definition: (),
        failures=Failures(full=True, redact=str),
        away=lambda: False,
        tally=Tally(unused, nobody, timers, calls),
    )
    step = StepDefinition("a", lambda given, ctx: handled.append(given))
    return WorkerCell("shop", FlowDefinition("shop", (step,)), 1, world)


def test_a_worker_all_of_whose_outcomes_are_parked_goes_on_claiming() -> None:
    store, calls, handled = Store(3), Calls(), list[Any]()
    cell = cell_with(store, calls, handled)
    cell.claims.poll_soon()
    calls.make_all()  # no message comes, and no timer is due
    assert (handled, cell.outbox.parked, store.tasks) == ([0, 1, 2], 3, [])
