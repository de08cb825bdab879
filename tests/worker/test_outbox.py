"""The outcomes on their way into the database: written together, in order, each once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from uuid import UUID

import pytest

from pgflow_starter import DatabaseError
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.task import Ignored, Outcome, OutcomeKind, Settled
from pgflow_starter.worker.outbox import BATCH
from pgflow_starter.worker.parked_runs import FIRST_PAUSE
from tests.worker.outbox_rig import OTHER, RUN, Rig, completed, lost, of_run, task

WAIT = 10.0


def test_of_runs_that_are_parked_for_longer_and_for_shorter_each_is_asked_for_by_itself() -> None:
    rig = Rig()
    outcomes = [completed(n)._replace(task=task(n)._replace(run_id=UUID(int=n))) for n in (1, 2)]
    rig.store.locked = {UUID(int=1), UUID(int=2)}
    rig.put(outcomes[0])
    for _ in range(3):
        rig.clock.advance(rig.pauses[-1])
        rig.outbox.flush()
    longer = rig.pauses[-1]
    rig.put(outcomes[1])
    rig.clock.advance(longer)  # both are due, in one batch
    rig.pauses.clear()
    rig.outbox.flush()
    assert sorted(rig.pauses) == [2 * FIRST_PAUSE, 2 * longer]


def test_an_outcome_is_written_at_once_and_told() -> None:
    rig = Rig()
    rig.put(completed(1))
    assert rig.store.settled == rig.told == [completed(1)]
    assert (len(rig.outbox), rig.stuck, rig.outbox.flush()) == (0, 0, True)


def test_runs_that_have_ended_are_told_when_their_outcomes_are_and_others_may_be_written() -> None:
    rig = Rig()
    run = EndedRun(RUN, "shop", "completed", 1.0, 2.0, "{}")
    settled = iter([Settled((), (), [run]), Settled(())])
    rig.store.settle = lambda outcomes, answers: next(settled)

    def put_another() -> None:
        rig.outbox.add(completed(2))
        assert rig.outbox.flush(wait=True)

    rig.when_ended = put_another
    rig.put(completed(1))
    assert (rig.told, rig.ended) == ([completed(1), completed(2)], [run])


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
    writer = threading.Thread(target=rig.put, args=(completed(0),))
    writer.start()
    assert writing.wait(WAIT)
    for number in range(1, BATCH + 3):
        rig.put(completed(number))
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
        rig.put(completed(number))
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
    bad = completed(1)._replace(output_json="€")
    rig.store.refuse = lambda batch: UnicodeEncodeError("latin-1", "€", 0, 1, "no") if "€" in str(batch) else None
    for outcome in (completed(0), bad, completed(2)):
        rig.outbox.add(outcome)
    assert rig.outbox.flush()
    assert rig.numbers() == [0, 2, 1]
    assert "\\u20ac" in rig.store.settled[-1].error


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
        rig.put(completed(number))
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
    rig.put(completed(1))
    (outcome,) = rig.store.settled
    assert (outcome.kind, outcome.task) == (OutcomeKind.FAILED, task(1))
    assert outcome.error == "the handler's output cannot be stored: too deep"
    assert (rig.told, rig.stuck, len(rig.outbox)) == ([outcome], 0, 0)


def test_a_failure_that_the_database_cannot_take_is_kept_rather_than_tried_for_ever() -> None:
    rig = Rig()
    rig.store.refuse = lambda _: DatabaseError("bad data", sqlstate="22P05")
    rig.put(completed(1))
    assert (rig.pauses, len(rig.outbox)) == ([FIRST_PAUSE], 1)
    assert rig.store.calls == [1, 1, 1]  # as completed, as failed, as failed for good


def test_outcomes_put_by_many_threads_are_each_written_once() -> None:
    rig = Rig()

    def put(first: int) -> None:
        for number in range(first, first + 50):
            rig.put(completed(number))

    putting = [threading.Thread(target=put, args=(50 * n,)) for n in range(8)]
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join(WAIT)
    assert sorted(rig.numbers()) == list(range(400))
    assert len(rig.outbox) == 0
