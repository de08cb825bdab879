"""From a handler to the database: executing, the outcomes on their way, and the flights that are waited for."""

from __future__ import annotations

import logging
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter import DatabaseError, FlowDefinition, PermanentError, StepDefinition, TaskContext
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Ignored, Outcome, OutcomeKind, Settled, Task
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.testing import ManualClock, ManualTimers
from pgflow_starter.worker.execution import execute
from pgflow_starter.worker.flights import Flight, Flights
from pgflow_starter.worker.outbox import BATCH, FIRST_PAUSE, LAST_PAUSE, PARKED_FREE, Outbox
from pgflow_starter.worker.troubles import Troubles
from tests.support.interrupting import interrupted_everywhere

WAIT = 10.0
RUN = UUID(int=1)
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
            away=lambda: self.away,
        )

    def _again(self, seconds: float | None) -> None:
        if seconds is None:
            self.stuck += 1
        else:
            self.pauses.append(seconds)

    def numbers(self) -> list[int]:
        return [o.task.task_index for o in self.store.settled]


def lost(_: Sequence[Outcome]) -> DatabaseError:
    return DatabaseError("gone", error_type="OperationalError", connection_lost=True)


# The outbox


def test_of_runs_that_are_parked_for_longer_and_for_shorter_each_is_asked_for_by_itself() -> None:
    rig = Rig()
    outcomes = [replace(completed(n), task=replace(task(n), run_id=UUID(int=n))) for n in (1, 2)]
    rig.store.locked = {UUID(int=1), UUID(int=2)}
    rig.outbox.put(outcomes[0])
    for _ in range(3):
        rig.clock.advance(rig.pauses[-1])
        rig.outbox.flush()
    longer = rig.pauses[-1]
    rig.outbox.put(outcomes[1])
    rig.clock.advance(longer)  # both are due, in one batch
    rig.pauses.clear()
    rig.outbox.flush()
    assert sorted(rig.pauses) == [2 * FIRST_PAUSE, 2 * longer]


def test_an_outcome_is_written_at_once_and_told() -> None:
    rig = Rig()
    rig.outbox.put(completed(1))
    assert rig.store.settled == rig.told == [completed(1)]
    assert (len(rig.outbox), rig.stuck, rig.outbox.flush()) == (0, 0, True)


def test_one_that_was_ignored_is_told_as_such_once_and_waits_no_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rig = Rig()
    whys = {1: Ignored("cancelled", "started"), 2: Ignored("queued", "started")}

    def settle(outcomes: Sequence[Outcome], answers: float) -> Settled:
        return Settled((), [(o, whys[o.task.task_index]) for o in outcomes if o.task.task_index in whys])

    rig.store.settle = settle
    for number in range(3):
        rig.outbox.add(completed(number))
    assert rig.outbox.flush()
    assert [o.kind for o in rig.told] == [OutcomeKind.COMPLETED, OutcomeKind.IGNORED, OutcomeKind.IGNORED]
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", f"shop: the outcome of step a of run {RUN} was ignored: the task is cancelled"),
        ("WARNING", f"shop: the outcome of step a of run {RUN} was ignored: the task is queued"),
    ]
    assert len(rig.outbox) == 0


def test_what_comes_while_another_thread_writes_is_its_next_batch_and_nobody_waits() -> None:
    rig, writing, go_on = Rig(), threading.Event(), threading.Event()

    def slow(_: Sequence[Outcome]) -> None:
        writing.set()
        go_on.wait(WAIT)

    rig.store.refuse = slow
    writer = threading.Thread(target=rig.outbox.put, args=(completed(0),))
    writer.start()
    assert writing.wait(WAIT)
    for number in range(1, BATCH + 3):
        rig.outbox.put(completed(number))
    assert rig.store.settled == []
    assert [t.task_index for t in rig.outbox.tasks()] == list(range(BATCH + 3))
    go_on.set()
    writer.join(WAIT)
    assert rig.store.calls == [1, BATCH, 2]
    assert rig.numbers() == list(range(BATCH + 3))


def test_while_the_connection_is_lost_outcomes_wait_in_order() -> None:
    rig = Rig()
    rig.store.refuse = lost
    for number in range(3):
        rig.outbox.put(completed(number))
    assert (rig.told, len(rig.outbox), rig.stuck) == ([], 3, 3)
    assert not rig.outbox.flush()
    rig.store.refuse = lambda _: None
    assert rig.outbox.flush(wait=True)
    assert rig.numbers() == [0, 1, 2]
    assert len(rig.outbox) == 0


def test_what_the_server_does_not_answer_in_time_is_written_in_smaller_parts_and_given_longer() -> None:
    rig = Rig()
    rig.store.refuse = lost
    for number in range(8):
        rig.outbox.add(completed(number))
    for _ in range(4):
        assert not rig.outbox.flush()
    assert rig.store.calls == [8, 4, 2, 1, 1, 1, 1, 1]
    assert rig.store.answers == [1, 1, 1, 1, 2, 4, 8, 16]
    rig.store.refuse = lambda batch: lost(batch) if len(batch) > 2 else None
    while not rig.outbox.flush():
        pass
    assert rig.numbers() == [*range(8)]


def test_what_the_driver_has_no_form_for_fails_its_own_task_only() -> None:
    rig = Rig()
    bad = replace(completed(1), output_json="€")
    rig.store.refuse = lambda batch: UnicodeEncodeError("latin-1", "€", 0, 1, "no") if "€" in str(batch) else None
    for outcome in (completed(0), bad, completed(2)):
        rig.outbox.add(outcome)
    assert rig.outbox.flush()
    assert rig.numbers() == [0, 2, 1]
    assert "\\u20ac" in rig.store.settled[-1].error


OTHER = UUID(int=2)


def of_run(run: UUID, number: int) -> Outcome:
    return Outcome(replace(task(number), run_id=run), OutcomeKind.COMPLETED, str(number))


def test_an_error_of_our_own_keeps_the_outcome_and_writes_the_others() -> None:
    rig = Rig()
    rig.store.refuse = lambda batch: RuntimeError("odd") if completed(0) in batch else None
    rig.outbox.add(completed(0))
    rig.outbox.add(of_run(OTHER, 1))
    rig.outbox.flush()
    assert (rig.numbers(), rig.pauses, len(rig.outbox)) == ([1], [FIRST_PAUSE], 1)


def test_a_connection_lost_while_writing_singly_loses_nothing() -> None:
    rig = Rig()
    for number in range(3):
        rig.outbox.add(completed(number))
    errors = iter([DatabaseError("no", sqlstate="42501"), None, lost(()), lost(())])
    rig.store.refuse = lambda _: next(errors)
    assert not rig.outbox.flush()
    assert rig.numbers() == [0]
    assert [t.task_index for t in rig.outbox.tasks()] == [1, 2]


def test_one_refused_outcome_does_not_hold_up_the_others_and_is_tried_again() -> None:
    rig = Rig()
    rig.store.refuse = lost
    for number in range(3):
        rig.outbox.put(completed(number))
    rig.store.refuse = lambda batch: DatabaseError("no", sqlstate="42501") if completed(1) in batch else None
    rig.outbox.flush()
    assert (rig.numbers(), rig.pauses) == ([0, 2], [FIRST_PAUSE])
    rig.store.refuse = lambda _: None
    rig.clock.advance(FIRST_PAUSE)
    assert rig.outbox.flush()
    assert rig.numbers() == [0, 2, 1]
    assert rig.told == rig.store.settled


def test_output_that_the_database_cannot_take_fails_the_task() -> None:
    rig = Rig()
    rig.store.refuse = lambda batch: (
        DatabaseError("too deep", sqlstate="22032") if batch[0].kind is OutcomeKind.COMPLETED else None
    )
    rig.outbox.put(completed(1))
    (outcome,) = rig.store.settled
    assert (outcome.kind, outcome.task) == (OutcomeKind.FAILED, task(1))
    assert outcome.error == "the handler's output cannot be stored: too deep"
    assert (rig.told, rig.stuck, len(rig.outbox)) == ([outcome], 0, 0)


def test_a_failure_that_the_database_cannot_take_is_kept_rather_than_tried_for_ever() -> None:
    rig = Rig()
    rig.store.refuse = lambda _: DatabaseError("bad data", sqlstate="22P05")
    rig.outbox.put(completed(1))
    assert (rig.pauses, len(rig.outbox)) == ([FIRST_PAUSE], 1)
    assert rig.store.calls == [1, 1, 1]  # as completed, as failed, as failed for good


def test_outcomes_put_by_many_threads_are_each_written_once() -> None:
    rig = Rig()

    def put(first: int) -> None:
        for number in range(first, first + 50):
            rig.outbox.put(completed(number))

    putting = [threading.Thread(target=put, args=(50 * n,)) for n in range(8)]
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join(WAIT)
    assert sorted(rig.numbers()) == list(range(400))
    assert len(rig.outbox) == 0


# Runs that somebody has locked


def test_the_outcomes_of_a_locked_run_are_parked_and_all_others_are_written() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    for number in range(4):
        rig.outbox.add(of_run(OTHER if number % 2 else RUN, number))
    assert rig.outbox.flush()
    assert (rig.numbers(), rig.outbox.parked, len(rig.outbox), rig.pauses) == ([0, 2], 2, 2, [FIRST_PAUSE])
    assert [t.task_index for t in rig.outbox.tasks()] == [1, 3]
    rig.outbox.put(of_run(OTHER, 5))  # joins them
    assert (rig.store.calls, rig.outbox.parked) == ([4], 3)
    rig.store.locked = set()
    rig.clock.advance(FIRST_PAUSE)
    assert rig.outbox.flush()
    assert (rig.numbers(), len(rig.outbox)) == ([0, 2, 1, 3, 5], 0)
    assert rig.told == rig.store.settled


def test_what_is_parked_comes_again_ever_more_rarely_and_what_joins_it_does_not_hurry_it() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    rig.outbox.put(of_run(OTHER, 0))
    for _ in range(12):
        rig.clock.advance(rig.pauses[-1])
        rig.outbox.put(of_run(OTHER, 1))
    assert rig.pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert rig.pauses[-1] == LAST_PAUSE
    assert rig.store.settled == []


def test_what_is_parked_keeps_a_worker_from_nothing_until_there_is_very_much() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    for number in range(PARKED_FREE + 10):
        rig.outbox.put(of_run(OTHER, number))
    rig.outbox.add(completed(0))
    assert rig.outbox.weight == 1 + 10


def test_who_waits_for_all_to_be_written_does_not_wait_for_the_next_try_nor_for_the_lock() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    rig.outbox.put(of_run(OTHER, 0))
    assert not rig.outbox.flush(wait=True)
    rig.store.locked = set()
    assert rig.outbox.flush(wait=True)
    assert rig.numbers() == [0]


def test_a_table_that_is_locked_keeps_all_and_makes_nothing_smaller() -> None:
    rig = Rig()
    rig.store.refuse = lambda _: DatabaseError("lock timeout", sqlstate="55P03")
    for number in range(5):
        rig.outbox.add(completed(number))
    assert not rig.outbox.flush()
    assert (rig.store.calls, rig.outbox.parked, rig.stuck) == ([5], 0, 1)
    rig.store.refuse = lambda _: None
    assert rig.outbox.flush()
    assert rig.store.calls == [5, 5]


def test_what_takes_longer_than_it_may_is_written_in_smaller_parts() -> None:
    rig = Rig()
    rig.store.refuse = lambda batch: DatabaseError("slow", sqlstate="57014", timed_out=True) if len(batch) > 1 else None
    for number in range(4):
        rig.outbox.add(completed(number))
    while not rig.outbox.flush():
        pass
    assert rig.numbers() == [0, 1, 2, 3]
    assert rig.store.calls[:3] == [4, 2, 1]


def test_an_output_that_the_database_refuses_is_told_as_a_failed_task() -> None:
    rig = Rig()
    refused = DatabaseError("invalid input", sqlstate="22P05", error_type="UntranslatableCharacter")
    rig.store.refuse = lambda batch: refused if batch[0].kind is OutcomeKind.COMPLETED else None
    rig.outbox.put(completed(1))
    (failed,) = rig.failed
    assert (failed.kind, failed.error_type) == (OutcomeKind.FAILED, "DatabaseError")
    assert rig.store.settled == [failed]


@pytest.mark.parametrize("away", [True, False])
def test_outcomes_that_wait_in_an_outage_are_no_line_of_their_worker(
    away: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.store.refuse = lambda batch: DatabaseError("away", connection_lost=True)
    rig.away = away
    for number in range(3):
        rig.outbox.put(completed(number))
    rig.store.refuse = lambda batch: None
    assert rig.outbox.flush()
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert told == ([] if away else ["shop: 1 outcomes wait to be written: away"])


# Executing


def run(handler: Callable[[Any, Any], Any], of: Task | None = None) -> Outcome:
    definition = FlowDefinition("shop", (StepDefinition("a", handler),))
    return execute(definition, of or task(7), 12.5, threading.Event())[0]


def test_a_handler_learns_what_the_contract_names() -> None:
    seen: list[Any] = []

    def handler(given: Any, ctx: TaskContext) -> Any:
        seen.extend((given, ctx))
        return {"out": [1]}

    outcome = run(handler)
    given, ctx = seen
    assert isinstance(ctx, TaskContext)
    assert given == {"in": 1}
    assert (ctx.run_id, ctx.flow_slug, ctx.step_slug, ctx.task_index) == (RUN, "shop", "a", 7)
    assert (ctx.attempt, ctx.msg_id, ctx.flow_input, ctx.deadline) == (2, 107, {"flow": 1}, 12.5)
    assert not ctx.cancelled.is_set()
    assert ctx.logger.extra == {
        "pgflow_run_id": str(RUN),
        "pgflow_slug": "shop",
        "pgflow_step": "a",
        "pgflow_task_index": 7,
        "pgflow_attempt": 2,
    }
    assert outcome == Outcome(task(7), OutcomeKind.COMPLETED, '{"out":[1]}')


def test_a_handlers_lines_carry_its_task_and_what_it_gives_them(caplog: pytest.LogCaptureFixture) -> None:
    def handler(given: Any, ctx: TaskContext) -> None:
        ctx.logger.warning("odd", extra={"customer": "ada", "pgflow_step": "mine"})
        ctx.logger.warning("plain")

    run(handler)
    odd, plain = (r.__dict__ for r in caplog.records)
    assert odd["customer"] == "ada"
    assert "customer" not in plain
    for record in (odd, plain):
        assert (record["pgflow_run_id"], record["pgflow_step"], record["pgflow_attempt"]) == (str(RUN), "a", 2)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("boom"), OutcomeKind.FAILED, "ValueError: boom\n"),
        (SystemExit(3), OutcomeKind.FAILED, "SystemExit: 3"),
        (KeyboardInterrupt(), OutcomeKind.FAILED, "KeyboardInterrupt"),
        (GeneratorExit(), OutcomeKind.FAILED, "GeneratorExit"),
        (PermanentError("never"), OutcomeKind.FAILED_FOR_GOOD, "never\n"),
        (MuteError(), OutcomeKind.FAILED, "MuteError"),
        (ValueError("nul \x00 \ud800"), OutcomeKind.FAILED, "nul \\x00 \\ud800"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_whatever_a_handler_raises_becomes_an_outcome(error: BaseException, kind: OutcomeKind, text: str) -> None:
    def fail(_input: Any, _ctx: Any) -> None:
        raise error

    outcome = run(fail)
    assert outcome.kind is kind
    assert text in outcome.error
    assert len(outcome.error.encode()) <= 10_000
    assert "in fail" in outcome.error or "MuteError" in text


def test_output_that_is_no_json_fails_the_task_by_its_path() -> None:
    outcome = run(lambda _input, _ctx: {"a": {1}})
    assert (outcome.kind, outcome.error) == (
        OutcomeKind.FAILED,
        "the handler's output cannot be stored: output['a'] is a set, which is not JSON",
    )


# Flights


def test_a_flight_is_landed_once() -> None:
    flight = Flight(task(), 0.0)
    assert [flight.land(), flight.land()] == [True, False]


def waiting_for(flights: Flights, deadline: Callable[[], float]) -> tuple[threading.Thread, list[bool]]:
    """A thread that waits, and what it will have been told."""
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(flights.wait_empty(SystemClock(), deadline)))
    thread.start()
    return thread, told


def test_who_waits_for_the_flights_is_woken_by_the_last() -> None:
    flights, made = Flights(), [Flight(task(n), 0.0) for n in range(3)]
    for flight in made:
        flights.add(flight)
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
            flights.add(flight)
            flights.land(flight, lambda: None)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000


def test_what_is_surrendered_has_landed_and_nothing_begins_any_more_until_they_are_reopened() -> None:
    flights, ended, flying = Flights(), Flight(task(1), 0.0), Flight(task(2), 0.0)
    said: list[str] = []
    flights.add(ended)
    flights.add(flying)
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
    flights.add(flight)

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


def test_a_nudge_that_a_signal_interrupts_at_any_step_keeps_the_lock_from_nobody() -> None:
    flights = Flights()

    def others_go_on() -> None:
        other = threading.Thread(target=flights.all, daemon=True)
        other.start()
        other.join(WAIT)
        assert not other.is_alive()

    assert interrupted_everywhere(flights.nudge, others_go_on, deeper=True) > 2
