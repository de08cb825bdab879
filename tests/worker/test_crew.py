"""The threads of a worker: each claimed task finds one, short ones share it, none is lost without one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter import FlowDefinition, StepDefinition
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.failure import Failures
from pgflow_starter.core.task import Outcome, Task
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.providers import Providers
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.worker.ahead import Ahead
from pgflow_starter.worker.crew import PATIENCE, Crew
from pgflow_starter.worker.failure_log import FailureLog
from pgflow_starter.worker.flights import Flights
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.troubles import Troubles
from tests.support.waiting import eventually

WAIT = 10.0


def task(number: int) -> Task:
    return Task(UUID(int=number + 1), "shop", "a", 0, 100 + number, 1, number, None)


class Store:
    """Settles into a list."""

    def __init__(self) -> None:
        self.batches: list[list[Outcome]] = []

    def settle(self, outcomes: Sequence[Outcome], answers: float, careful: bool = False) -> Sequence[Outcome]:
        self.batches.append(list(outcomes))
        return ()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)

    def inputs(self) -> list[Any]:
        return sorted(o.task.input for batch in self.batches for o in batch)


class Rig:
    """A crew whose handler is given, with real threads and timers that are moved by hand."""

    def __init__(self, handler: Callable[[Any], Any], threads: Any, slots: int = 10) -> None:
        definition = FlowDefinition("shop", (StepDefinition("a", lambda given, ctx: handler(given)),), timeout=5)
        log = ModuleLog(logging.getLogger("pgflow_starter.workers"), "shop", "shop")
        self.store: Any = Store()
        self.flights, self.timers, clock = Flights(), ManualTimers(), SystemClock()
        troubles = Troubles(SystemClock(), self.timers, log, lambda: None, lambda: False)
        self.outbox = Outbox(
            self.store,
            SystemClock(),
            lambda outcomes: None,
            lambda seconds: None,
            log,
            troubles,
            failed=lambda outcome: None,
            ended=lambda runs: None,
            away=lambda: False,
        )
        self.hanging = threading.Semaphore(0)
        self.landed = threading.Semaphore(0)
        self.returned: list[Task] = []
        held: Any = SimpleNamespace(
            will_return=lambda task: None, give_back=self.returned.extend, no_thread_for=self.returned.extend
        )
        self.messages: Any = SimpleNamespace(processing=OtelMessages(Providers(clock), clock).processing)
        world: Any = SimpleNamespace(
            clock=self.timers.clock,
            timers=self.timers,
            threads=threads,
            messages=self.messages,
            middleware=(),
        )
        self.crew = Crew(
            definition,
            slots,
            Ahead(slots, 5),
            self.flights,
            self.outbox,
            held,
            world,
            FailureLog(definition, log, Failures(full=True, redact=str)),
            hanging=self.hanging.release,
            landed=self.landed.release,
        )

    def await_settled(self, count: int) -> None:
        eventually(lambda: len(self.store.inputs()) == count)


@pytest.fixture
def threads() -> Iterator[ThreadCache]:
    cache = ThreadCache("pgflow-crew")
    yield cache
    assert cache.close(WAIT) == 0


def test_each_of_many_tasks_that_wait_for_each_other_finds_a_thread(threads: ThreadCache) -> None:
    together = threading.Barrier(20)
    rig = Rig(lambda _: together.wait(WAIT), threads, slots=20)
    rig.crew.launch([task(n) for n in range(10)])
    rig.crew.launch([task(n) for n in range(10, 20)])
    rig.await_settled(20)
    assert rig.store.inputs() == list(range(20))
    assert not len(rig.flights)


def test_short_tasks_share_a_thread_and_are_written_together() -> None:
    class Late:
        """Lets a second thread come only when the first has done everything."""

        def __init__(self) -> None:
            self.begun: list[Callable[[], object]] = []

        def run(self, call: Callable[[], object]) -> None:
            self.begun.append(call)

    late = Late()
    rig = Rig(lambda given: given, late)
    rig.crew.launch([task(n) for n in range(10)])
    assert len(late.begun) == 1
    late.begun[0]()
    assert rig.store.inputs() == list(range(10))
    assert [len(batch) for batch in rig.store.batches] == [10]
    assert len(late.begun) == 3  # one that would have run the second task, one that would have written the first
    for call in late.begun[1:]:
        call()
    assert [len(batch) for batch in rig.store.batches] == [10]


def test_a_short_task_is_written_while_its_thread_runs_a_long_one(
    threads: ThreadCache, release: threading.Event
) -> None:
    rig = Rig(lambda given: given == 0 or release.wait(), threads)
    rig.crew.launch([task(n) for n in range(3)])
    eventually(lambda: rig.store.inputs() == [0])
    release.set()
    rig.await_settled(3)


def test_tasks_for_which_there_is_no_thread_are_returned() -> None:
    class NoThreads:
        def run(self, call: Callable[[], object]) -> None:
            raise RuntimeError("can't start new thread")

    rig = Rig(lambda given: given, NoThreads())
    rig.crew.launch([task(n) for n in range(3)])
    assert [t.input for t in rig.returned] == [0, 1, 2]
    assert (len(rig.flights), rig.store.batches) == (0, [])


def test_a_slot_is_told_free_when_its_thread_has_nothing_more_to_run(threads: ThreadCache) -> None:
    rig = Rig(lambda given: given, threads)
    rig.crew.launch([task(1)])
    assert rig.landed.acquire(timeout=WAIT)
    rig.await_settled(1)


def test_a_task_that_takes_too_long_fails_and_its_late_result_is_ignored(
    threads: ThreadCache, release: threading.Event
) -> None:
    begun = threading.Event()

    def hang(given: Any) -> Any:
        begun.set()
        release.wait()
        return given

    rig = Rig(hang, threads)
    rig.crew.launch([task(1)])
    assert begun.wait(WAIT)
    rig.timers.advance(5.0)
    rig.await_settled(1)
    assert rig.hanging.acquire(timeout=WAIT)
    assert (len(rig.flights), rig.flights.abandoned, rig.flights.hanging) == (0, 1, [task(1)])
    assert any(name.endswith(" shop.a") for name in threads.names())
    release.set()
    assert rig.hanging.acquire(timeout=WAIT)
    assert rig.flights.abandoned == 0
    eventually(lambda: not any("shop" in name for name in threads.names()))
    [[outcome]] = rig.store.batches
    assert "has not ended within its timeout of 5 s" in outcome.error


def test_no_more_than_there_are_slots_run_and_a_task_for_which_none_comes_free_is_given_back(
    threads: ThreadCache, release: threading.Event
) -> None:
    begun: list[int] = []

    def hang(given: int) -> int:
        begun.append(given)
        release.wait()
        return given

    rig = Rig(hang, threads, slots=2)
    rig.crew.launch([task(n) for n in range(5)])
    eventually(lambda: len(begun) == 2)
    assert (rig.flights.running, rig.flights.waiting, len(rig.flights)) == (2, 3, 5)
    rig.timers.advance(PATIENCE)
    eventually(lambda: [t.input for t in rig.returned] == [2, 3, 4])
    assert (rig.flights.running, rig.flights.waiting, len(rig.flights)) == (2, 0, 2)
    release.set()
    rig.await_settled(2)
    assert (sorted(begun), rig.store.inputs()) == ([0, 1], [0, 1])


def test_a_task_that_hangs_and_was_given_up_leaves_its_slot_to_one_that_waits(
    threads: ThreadCache, release: threading.Event
) -> None:
    rig = Rig(lambda given: given or release.wait(), threads, slots=1)
    rig.crew.launch([task(0)])
    eventually(lambda: rig.flights.running == 1)
    rig.timers.advance(5 - PATIENCE / 2)
    rig.crew.launch([task(1)])
    rig.timers.advance(PATIENCE / 2)
    rig.await_settled(2)
    assert (rig.returned, rig.flights.abandoned) == ([], 1)
    release.set()
    eventually(lambda: rig.flights.abandoned == 0)


def test_a_thread_that_hangs_when_its_task_has_landed_keeps_no_other_task_waiting(
    threads: ThreadCache, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(lambda given: given, threads, slots=1)
    hangs = threading.Event()

    def hang(self: FailureLog, outcome: Outcome, error: BaseException | None = None) -> None:
        if not hangs.is_set():
            hangs.set()
            release.wait()

    monkeypatch.setattr(FailureLog, "log", hang)
    rig.crew.launch([task(n) for n in range(3)])
    assert hangs.wait(WAIT)
    assert (rig.flights.running, rig.flights.waiting) == (0, 2)
    rig.timers.advance(PATIENCE)
    rig.await_settled(3)
    assert rig.returned == []
    release.set()


def test_the_time_of_a_task_counts_from_its_beginning(threads: ThreadCache, release: threading.Event) -> None:
    rig = Rig(lambda given: release.wait(), threads, slots=1)
    rig.crew.launch([task(0)])
    eventually(lambda: rig.flights.running == 1)
    rig.timers.advance(5 - PATIENCE / 2)
    rig.crew.launch([task(1)])
    rig.timers.advance(PATIENCE / 2)
    rig.await_settled(1)
    eventually(lambda: rig.flights.running == 1)
    rig.timers.advance(5 - PATIENCE / 4)
    assert (rig.flights.running, rig.flights.abandoned) == (1, 1)
    rig.timers.advance(PATIENCE / 4)
    rig.await_settled(2)
    assert rig.flights.abandoned == 2
    release.set()
    eventually(lambda: rig.flights.abandoned == 0)


def test_a_hundred_rounds_lose_nothing(threads: ThreadCache) -> None:
    rig = Rig(lambda given: given, threads)
    for start in range(0, 1000, 10):
        rig.crew.launch([task(start + n) for n in range(10)])
    rig.await_settled(1000)
    assert rig.store.inputs() == list(range(1000))
