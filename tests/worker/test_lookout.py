"""The lookout: one look for many idle workers, and that none is forgotten, whatever becomes of the look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from pgflow_starter import DatabaseError
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.gatherer import MOST, WIDTH
from pgflow_starter.threads.lane import Lane
from pgflow_starter.worker.lookout import GATHERING, QUEUES_A_SECOND, Lookout
from tests.support.waiting import eventually

WAIT = 10.0


class Look:
    """One look: whom it is for, and when it may end."""

    def __init__(self, workers: Sequence[tuple[UUID, str]]) -> None:
        self.queues = [queue for _, queue in workers]
        self.go_on = threading.Event()
        self.answer: Sequence[float | None] | BaseException = [None] * len(workers)

    def end(self, answer: Sequence[float | None] | BaseException | None = None) -> None:
        self.answer = self.answer if answer is None else answer
        self.go_on.set()


class Store:
    """`ports.TaskStore`, as far as the lookout needs it."""

    def __init__(self) -> None:
        self.looks: SimpleQueue[Look] = SimpleQueue()
        self.all: list[Look] = []

    def look(self, workers: Sequence[tuple[UUID, str]]) -> Sequence[float | None]:
        look = Look(workers)
        self.all.append(look)
        self.looks.put(look)
        assert look.go_on.wait(6 * WAIT)
        if isinstance(look.answer, BaseException):
            raise look.answer
        return look.answer


class Idle:
    """A worker that looks, and what it was told."""

    def __init__(self, queue: str) -> None:
        self.wired_as = (uuid4(), queue)
        self.told: SimpleQueue[tuple[str, object]] = SimpleQueue()

    def poll_soon(self) -> None:
        self.told.put(("poll", None))

    def saw_nothing(self, visible_in: float | None) -> None:
        self.told.put(("nothing", visible_in))

    def no_thread(self, error: RuntimeError) -> None:
        self.told.put(("no thread", error))


class Hill:
    """A lookout with manual timers and a lane of its own."""

    def __init__(self) -> None:
        self.timers, self.store = ManualTimers(), Store()
        self.threads = ThreadCache("pgflow-test")
        self.lane = Lane(self.threads, 10)
        self.lookout = Lookout(cast("Any", self.store), self.lane, self.timers, 1.0)
        self.made = 0

    def ask(self, count: int) -> list[Idle]:
        workers = [Idle(f"q{self.made + n}") for n in range(count)]
        self.made += count
        for worker in workers:
            self.lookout.look_for(worker)
        return workers

    def look(self) -> Look:
        return self.store.looks.get(timeout=WAIT)

    def gathered(self) -> None:
        self.timers.advance(max(GATHERING, MOST / QUEUES_A_SECOND))

    def settled(self) -> None:
        eventually(lambda: not self.threads.busy())
        self.gathered()  # one too many may be armed; it finds nobody
        assert self.lookout.gatherer.counts() == (0, 0, 0)
        assert self.timers.pending == 0

    def close(self) -> None:
        for look in self.store.all:
            look.go_on.set()
        assert self.threads.close(WAIT) == 0


@pytest.fixture
def hill() -> Iterator[Hill]:
    made = Hill()
    yield made
    made.close()


def told(worker: Idle) -> tuple[str, object]:
    return worker.told.get(timeout=WAIT)


def no_thread(_: Callable[[], object]) -> None:
    raise RuntimeError("can't start new thread")


def test_those_who_ask_within_a_moment_share_a_look_and_each_is_told_its_own(hill: Hill) -> None:
    workers = hill.ask(2)
    hill.timers.advance(GATHERING / 2)
    workers += hill.ask(3)
    hill.lookout.look_for(workers[0])
    assert hill.store.looks.empty()
    hill.timers.advance(GATHERING / 2)
    look = hill.look()
    assert look.queues == ["q0", "q1", "q2", "q3", "q4"]
    look.end([None, 0.0, 7.5, -3.0, None])
    assert [told(worker) for worker in workers] == [
        ("nothing", None),
        ("poll", None),
        ("nothing", 7.5),
        ("poll", None),
        ("nothing", None),
    ]
    hill.settled()
    assert all(worker.told.empty() for worker in workers)


def test_the_shorter_the_interval_the_shorter_the_gathering() -> None:
    timers, threads = ManualTimers(), ThreadCache("pgflow-test")
    lookout = Lookout(cast("Any", Store()), Lane(threads, 1), timers, 0.05)
    lookout.look_for(Idle("q"))
    assert timers.next_in == 0.005
    threads.close(WAIT)


def test_the_more_queues_a_look_had_the_later_the_next_begins(hill: Hill) -> None:
    hill.ask(MOST)
    hill.gathered()
    look = hill.look()
    hill.ask(2)
    hill.timers.advance(MOST / QUEUES_A_SECOND - 0.001)
    assert hill.store.looks.empty()
    hill.timers.advance(0.001)
    hill.look().end()
    look.end()
    hill.settled()


def test_one_who_asks_alone_claims_at_once(hill: Hill) -> None:
    (worker,) = hill.ask(1)
    hill.gathered()
    assert told(worker) == ("poll", None)
    hill.settled()
    assert not hill.store.all


def test_a_look_has_its_most_and_there_are_two_at_a_time(hill: Hill) -> None:
    workers = hill.ask(MOST + 5)
    hill.gathered()
    first = hill.look()
    assert len(first.queues) == MOST
    workers += hill.ask(MOST)
    hill.gathered()
    second = hill.look()
    assert (len(second.queues), second.queues[0]) == (MOST, f"q{MOST}")
    workers += hill.ask(1)
    hill.gathered()
    assert hill.lookout.gatherer.counts().places == WIDTH
    assert hill.timers.pending == 0
    second.end()
    eventually(lambda: hill.timers.pending)
    hill.gathered()
    third = hill.look()
    assert third.queues == [f"q{n}" for n in range(2 * MOST, 2 * MOST + 6)]
    third.end()
    first.end()
    assert [told(worker) for worker in workers] == [("nothing", None)] * len(workers)
    hill.settled()


def test_a_look_that_hangs_keeps_only_those_who_are_in_it(hill: Hill) -> None:
    held = hill.ask(2)
    hill.gathered()
    hung = hill.look()
    for _ in range(3):
        others = hill.ask(2)
        hill.gathered()
        hill.look().end()
        assert [told(worker) for worker in others] == [("nothing", None)] * 2
        eventually(lambda: hill.lookout.gatherer.counts().places == 1)
    assert all(worker.told.empty() for worker in held)
    hung.end(DatabaseError("gone", error_type="OperationalError", connection_lost=True))
    assert [told(worker) for worker in held] == [("poll", None)] * 2


@pytest.mark.parametrize("error", [DatabaseError("no table", sqlstate="42P01"), MemoryError()], ids=repr)
def test_after_a_look_that_failed_each_claims_by_itself(hill: Hill, error: BaseException) -> None:
    workers = hill.ask(3)
    hill.gathered()
    hill.look().end(error)
    assert [told(worker) for worker in workers] == [("poll", None)] * 3
    hill.settled()


def test_one_who_asks_while_it_is_looked_for_is_looked_for_again(hill: Hill) -> None:
    workers = hill.ask(2)
    hill.gathered()
    first = hill.look()
    hill.lookout.look_for(workers[1])
    hill.lookout.look_for(workers[0])
    first.end()
    assert [told(worker) for worker in workers] == [("nothing", None)] * 2
    hill.gathered()
    second = hill.look()
    assert second.queues == ["q1", "q0"]
    second.end([0.0, None])
    assert [told(worker) for worker in workers] == [("nothing", None), ("poll", None)]
    hill.settled()


def test_without_a_thread_all_are_told_and_the_next_look_is_made(hill: Hill, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = hill.ask(MOST + 5)
    with monkeypatch.context() as patched:
        patched.setattr(hill.threads, "run", no_thread)
        hill.gathered()
    assert [told(worker)[0] for worker in workers] == ["no thread"] * len(workers)
    hill.settled()
    again = hill.ask(2)
    hill.gathered()
    hill.look().end()
    assert [told(worker) for worker in again] == [("nothing", None)] * 2


def test_a_look_waits_for_its_place_in_the_lane_and_serves_who_came_meanwhile(
    hill: Hill, release: threading.Event
) -> None:
    for _ in range(10):
        hill.lane.run(release.wait)
    workers = hill.ask(2)
    hill.gathered()
    workers += hill.ask(2)
    hill.gathered()
    workers += hill.ask(2)
    hill.gathered()
    assert hill.store.looks.empty()
    release.set()
    look = hill.look()
    assert len(look.queues) == 6
    look.end()
    assert [told(worker) for worker in workers] == [("nothing", None)] * 6
    hill.settled()


class Failing(Idle):
    """One that makes an error of whatever it is told."""

    def poll_soon(self) -> None:
        raise ValueError("no")

    def saw_nothing(self, visible_in: float | None) -> None:
        raise ValueError("no")

    def no_thread(self, error: RuntimeError) -> None:
        raise ValueError("no")


@pytest.mark.parametrize("answer", [None, 0.0])
def test_one_that_raises_when_it_is_told_keeps_nobody_from_being_told(hill: Hill, answer: float | None) -> None:
    failing = Failing("failing")
    hill.lookout.look_for(failing)
    workers = hill.ask(2)
    hill.gathered()
    hill.look().end([answer, None, None])
    assert [told(worker) for worker in workers] == [("nothing", None)] * 2
    hill.settled()


def test_one_that_raises_when_there_is_no_thread_keeps_nobody_from_being_told(
    hill: Hill, monkeypatch: pytest.MonkeyPatch
) -> None:
    hill.lookout.look_for(Failing("failing"))
    workers = hill.ask(2)
    with monkeypatch.context() as patched:
        patched.setattr(hill.threads, "run", no_thread)
        hill.gathered()
    assert [told(worker)[0] for worker in workers] == ["no thread"] * 2
    hill.settled()
