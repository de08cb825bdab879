"""The flights that are waited for."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from queue import SimpleQueue

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Task
from pgflow_starter.testing import ManualClock
from pgflow_starter.worker.flights import Flight, Flights
from tests.support.interrupting import interrupted_everywhere
from tests.worker.outbox_rig import task

WAIT = 10.0


def test_a_flight_is_landed_once() -> None:
    flight = Flight(task(), 0.0)
    assert [flight.land(), flight.land()] == [True, False]


def begun(flights: Flights, *made: Flight) -> None:
    """They are under way and run."""
    flights.add(*made)
    while flights.begin(0.0, len(flights)):
        pass


def waiting_for(flights: Flights, deadline: Callable[[], float]) -> tuple[threading.Thread, list[bool]]:
    """A thread that waits, and what it will have been told."""
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(flights.wait_empty(SystemClock(), deadline)))
    thread.start()
    return thread, told


def test_who_waits_for_the_flights_is_woken_by_the_last() -> None:
    flights, made = Flights(), [Flight(task(n), 0.0) for n in range(3)]
    begun(flights, *made)
    late = SystemClock().monotonic() + WAIT
    waiting, told = waiting_for(flights, lambda: late)
    said: list[str] = []
    assert flights.land(made[0], lambda: said.append("ended"))
    assert not flights.land(made[0], lambda: said.append("again"))
    assert flights.land(made[1], lambda: said.append("given up"), ended=False)
    assert said == ["ended", "given up"]
    assert (len(flights), flights.all(), flights.abandoned, told) == (1, [made[2]], 1, [])
    assert made[1].cancelled.is_set()
    flights.land(made[2], lambda: None)
    waiting.join(WAIT)
    assert told == [True]
    flights.ended_late(made[1])
    assert flights.abandoned == 0


def test_waiting_for_flights_ends_at_the_deadline_that_holds_then() -> None:
    flights, clock = Flights(), ManualClock()
    assert flights.wait_empty(clock, clock.monotonic)
    flights.add(Flight(task(), 0.0))
    assert not flights.wait_empty(clock, clock.monotonic)
    asked = threading.Event()
    deadlines = iter([SystemClock().monotonic() + WAIT])

    def deadline() -> float:
        asked.set()
        return next(deadlines, 0.0)

    waiting, told = waiting_for(flights, deadline)
    assert asked.wait(WAIT)
    flights.nudge()
    waiting.join(WAIT)
    assert told == [False]


def test_flights_that_have_landed_leave_nothing_behind() -> None:
    flights = Flights()
    tracemalloc.start()
    try:
        for _ in range(20_000):
            flight = Flight(task(), 0.0)
            begun(flights, flight)
            flights.land(flight, lambda: None)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000


def test_what_is_surrendered_has_landed_and_nothing_begins_any_more_until_they_are_reopened() -> None:
    flights, ended, flying = Flights(), Flight(task(1), 0.0), Flight(task(2), 0.0)
    said: list[str] = []
    begun(flights, ended, flying)
    flights.land(ended, lambda: said.append("outcome"))
    assert flights.surrender() == [flying.task]
    assert not flights.land(flying, lambda: said.append("late"))
    assert said == ["outcome"]
    assert (len(flights), flights.abandoned, flying.cancelled.is_set()) == (0, 1, True)
    assert not flights.add(Flight(task(3), 0.0))
    flights.reopen()
    assert flights.add(Flight(task(3), 0.0))


def test_between_its_landing_and_what_is_said_of_it_nobody_finds_a_task_neither_under_way_nor_told_of() -> None:
    flights, flight = Flights(), Flight(task(), 0.0)
    landed, go_on = threading.Event(), threading.Event()
    said: list[str] = []
    surrendered: SimpleQueue[tuple[list[Task], list[str]]] = SimpleQueue()
    begun(flights, flight)

    def say() -> None:
        landed.set()
        assert go_on.wait(WAIT)
        said.append("outcome")

    lander = threading.Thread(target=flights.land, args=(flight, say))
    ender = threading.Thread(target=lambda: surrendered.put((flights.surrender(), list(said))))
    lander.start()
    assert landed.wait(WAIT)
    ender.start()
    go_on.set()
    assert surrendered.get(timeout=WAIT) == ([], ["outcome"])


def test_what_waits_begins_in_order_and_is_surrendered_without_a_thread_that_would_hang() -> None:
    flights, made = Flights(), [Flight(task(n), 5.0, launched=float(n)) for n in range(4)]
    assert flights.add(*made)
    assert flights.begin(7.0, 1) is made[0]
    assert flights.begin(7.0, 1) is None
    assert (flights.running, flights.waiting, made[0].begun, made[0].deadline) == (1, 3, 7.0, 12.0)
    assert (flights.overdue(11.9), flights.overdue(12.0)) == ([], [made[0]])
    assert [flights.next_due(now, patience) for now, patience in ((7.0, 9.0), (7.0, 1.0), (12.0, 30.0))] == [10, 8, 31]
    said: list[Task] = []
    assert flights.take_back(1.5, said.append) == said == [made[1].task]
    assert flights.surrender() == [flight.task for flight in (made[0], made[2], made[3])]
    assert (len(flights), flights.running, flights.waiting, flights.hanging) == (0, 0, 0, [made[0].task])


def test_a_nudge_that_a_signal_interrupts_at_any_step_keeps_the_lock_from_nobody() -> None:
    flights = Flights()

    def others_go_on() -> None:
        other = threading.Thread(target=flights.all, daemon=True)
        other.start()
        other.join(WAIT)
        assert not other.is_alive()

    assert interrupted_everywhere(flights.nudge, others_go_on, deeper=True) > 2
