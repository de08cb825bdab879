"""Runs that somebody has locked: their outcomes rest, and all others are written."""

from __future__ import annotations

import logging

import pytest

from pgflow_starter import DatabaseError
from pgflow_starter.core.task import OutcomeKind
from pgflow_starter.worker.outbox import PARKED_FREE
from pgflow_starter.worker.parked_runs import FIRST_PAUSE, LAST_PAUSE
from tests.worker.outbox_rig import OTHER, RUN, Rig, completed, of_run

WAIT = 10.0


def test_the_outcomes_of_a_locked_run_are_parked_and_all_others_are_written() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    for number in range(4):
        rig.outbox.add(of_run(OTHER if number % 2 else RUN, number))
    assert rig.outbox.flush()
    assert (rig.numbers(), rig.outbox.parked, len(rig.outbox), rig.pauses) == ([0, 2], 2, 2, [FIRST_PAUSE])
    assert [t.task_index for t in rig.outbox.tasks()] == [1, 3]
    rig.put(of_run(OTHER, 5))  # joins them
    assert (rig.store.calls, rig.outbox.parked) == ([4], 3)
    rig.store.locked = set()
    rig.clock.advance(FIRST_PAUSE)
    assert rig.outbox.flush()
    assert (rig.numbers(), len(rig.outbox)) == ([0, 2, 1, 3, 5], 0)
    assert rig.told == rig.store.settled


def test_what_is_parked_comes_again_ever_more_rarely_and_what_joins_it_does_not_hurry_it() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    rig.put(of_run(OTHER, 0))
    for _ in range(12):
        rig.clock.advance(rig.pauses[-1])
        rig.put(of_run(OTHER, 1))
    assert rig.pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert rig.pauses[-1] == LAST_PAUSE
    assert rig.store.settled == []


def test_what_is_parked_keeps_a_worker_from_nothing_until_there_is_very_much() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    for number in range(PARKED_FREE + 10):
        rig.put(of_run(OTHER, number))
    rig.outbox.add(completed(0))
    assert rig.outbox.weight == 1 + 10


def test_who_waits_for_all_to_be_written_does_not_wait_for_the_next_try_nor_for_the_lock() -> None:
    rig = Rig()
    rig.store.locked = {OTHER}
    rig.put(of_run(OTHER, 0))
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
    rig.put(completed(1))
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
        rig.put(completed(number))
    rig.store.refuse = lambda batch: None
    assert rig.outbox.flush()
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert told == ([] if away else ["shop: 1 outcomes wait to be written: away"])
