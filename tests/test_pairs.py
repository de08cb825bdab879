"""What is done in two steps, observed between them: a thread stands still there while everything else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.modules import module_specs
from pgflow_starter.core.state import phases_of
from pgflow_starter.core.task import Task
from pgflow_starter.errors import StarterStopped
from pgflow_starter.modules.board import Board
from pgflow_starter.starter import per_process as runtimes
from pgflow_starter.threads.cache import ThreadCache, ThreadsClosedError
from pgflow_starter.threads.timers import TimerThread
from pgflow_starter.worker.flights import Flight, Flights
from tests.modules.rig import NoOutage
from tests.support.pauses import Between
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.worker.outbox_rig import task

WAIT = 30.0


@pytest.fixture
def timers() -> Iterator[TimerThread]:
    made = TimerThread(SystemClock())
    yield made
    made.close()


# The tool itself


def steps(seen: list[str]) -> None:
    seen.append("first")
    seen.append("second")


def test_one_stands_between_the_two_steps_and_those_after_it_pass() -> None:
    seen: list[str] = []
    others: list[str] = []
    with Between(steps, 'append("first")', 'append("second")') as pair:
        pair.beside(lambda: steps(seen))
        pair.reached()
        pair.beside(lambda: steps(others)).join(WAIT)
        assert (seen, others) == (["first"], ["first", "second"])
    assert seen == ["first", "second"]


@pytest.mark.parametrize(("done", "next_"), [("append", "gone"), ('"second"', '"first"')])
def test_a_pair_that_is_no_more_is_named(done: str, next_: str) -> None:
    with pytest.raises(AssertionError, match=f"no step .{next_}"):
        Between(steps, done, next_)


# Threads of a cache


def test_a_thread_that_is_added_and_not_started_is_neither_left_behind_nor_abandoned() -> None:
    cache, ran, abandoned = ThreadCache("pgflow-test"), threading.Event(), SimpleQueue[int]()
    with Between(ThreadCache._start, "self._threads", "thread.start()") as pair:
        pair.beside(lambda: cache.run(ran.set))
        pair.reached()
        pair.beside(lambda: abandoned.put(cache.close(WAIT)))
        assert abandoned.empty()
        pair.go_on()
        assert abandoned.get(timeout=WAIT) == 0
    assert ran.is_set()
    assert not cache._threads
    with pytest.raises(ThreadsClosedError):
        cache.run(ran.set)


# A task that ends just when its worker's time is up


@pytest.mark.parametrize("given_up", [False, True], ids=["its outcome", "its timeout"])
def test_a_task_that_has_landed_is_told_of_before_who_surrenders_the_rest_can_miss_it(given_up: bool) -> None:
    flights, flight, said = Flights(), Flight(task(), 0.0), SimpleQueue[str]()
    surrendered = SimpleQueue[tuple[list[Task], bool]]()
    flights.add(flight)
    with Between(Flights.land, "flight.land()", "say()") as pair:
        pair.beside(lambda: flights.land(flight, lambda: said.put("said"), ended=not given_up))
        pair.reached()
        pair.beside(lambda: surrendered.put((flights.surrender(), said.empty())))
        pair.go_on()
        assert surrendered.get(timeout=WAIT) == ([], False)


# Timed calls


def test_after_its_end_the_timers_thread_makes_no_call_that_it_had_taken(timers: TimerThread) -> None:
    made, late = threading.Event(), SimpleQueue[bool]()

    def close() -> None:
        timers.close()
        late.put(not made.is_set())

    with Between(TimerThread._make_calls, "timed.call = None", "call()") as pair:
        timers.after(0, made.set)
        pair.reached()
        pair.beside(close)
        pair.go_on()
        assert late.get(timeout=WAIT) is False


# Waiting for a starter that is stopped


@pytest.mark.parametrize(
    ("done", "next_"),
    [
        ("waiter: SimpleQueue", "self._waiters[id(waiter)] = waiter"),
        ("self._waiters[id(waiter)] = waiter", "self.check_open()"),
        ("self.check_open()", "self.status().ready"),
        ("left <= 0", "waiter.get("),
    ],
)
@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_who_is_about_to_wait_until_it_is_ready_hears_of_the_stop(done: str, next_: str, timeout: float | None) -> None:
    board = Board(module_specs(("shop",), ()), phases_of("polling"), SystemClock(), NoOutage(), lambda *_: None)
    ended = SimpleQueue[object]()

    def wait() -> None:
        try:
            board.await_ready(timeout)
        except StarterStopped as stopped:
            ended.put(stopped)

    with Between(Board.await_ready, done, next_) as pair:
        pair.beside(wait)
        pair.reached()
        board.close(lambda: StarterStopped("the starter was stopped"))
        pair.go_on()
        assert isinstance(ended.get(timeout=WAIT), StarterStopped)
    assert not board._waiters


# The interpreter's exit


def test_a_stop_that_ends_while_the_exit_counts_who_runs_does_it_no_harm(empty_database: str) -> None:
    raised = SimpleQueue[BaseException | None]()

    def at_exit(stop: Callable[[], object]) -> None:
        try:
            stop()
        except BaseException as error:
            raised.put(error)
        else:
            raised.put(None)

    with running(empty_database) as starter:
        found = starter._runtimes
        assert isinstance(found, runtimes.Runtimes)
        (place,) = found._places.values()
        stop = place.at_exit
        assert stop is not None
        with Between(runtimes._stop_at_exit, "for each in", "_running.pop(") as pair:
            pair.beside(lambda: at_exit(stop))
            pair.reached()
            starter.stop()
            eventually(lambda: found._places and place.started not in runtimes._running)
            pair.go_on()
            assert raised.get(timeout=WAIT) is None
    with pytest.raises(pgflow.StarterStopped):
        starter.status()
