"""The module actor, real, under a real supervisor: attempts, and the messages that ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from pgflow_starter import DefinitionError, NotReadyError, Trouble, TroubleKind, TroubleScope
from pgflow_starter.core.phases import phases_of
from pgflow_starter.modules.messages import (
    CellChanged,
    DatabaseBack,
    PhaseOverdue,
    PhaseReported,
    RetryDue,
)
from tests.modules.rig import AWAY, WAIT, Rig, hang
from tests.support.waiting import eventually

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.stop()


# The straight way


@pytest.mark.parametrize("strategy", ["polling", "notify"])
def test_a_module_goes_through_its_phases_and_has_succeeded(rig: Rig, strategy: str) -> None:
    rig.start(strategy=strategy)
    assert rig.ended() is None
    assert [phase for _, phase in rig.phases.ran] == list(phases_of(strategy))
    state = rig.state
    assert (state.status, state.attempts, state.phase, state.slug) == ("succeeded", 1, None, "orders")
    assert (state.last_error, state.next_attempt_at, rig.timers.pending) == (None, None, 0)
    rig.board.await_ready(0)


def test_a_transient_failure_is_tried_again_after_its_delay_and_not_before(rig: Rig) -> None:
    rig.phases.on("worker", AWAY, AWAY)
    rig.start()
    assert rig.ended() == 1
    state = rig.state
    assert (state.status, state.attempts, rig.reason()) == ("retrying", 1, "server closed the connection")
    assert state.next_attempt_at is not None
    assert (state.next_attempt_at - rig.timers.clock.now()).total_seconds() == 1
    with pytest.raises(NotReadyError, match=r"shop: retrying, attempt 1, phase worker failed.*next attempt in 1\.0 s"):
        rig.board.await_ready(0)
    rig.advance(0.99)
    assert rig.state is state
    rig.advance(0.01)
    assert rig.ended() == 2
    rig.advance(2)
    assert rig.ended() is None
    assert (rig.state.status, rig.state.attempts, rig.state.last_error) == ("succeeded", 3, None)
    assert rig.probe.began == [1, 2, 3]
    assert rig.timers.pending == 0


def test_a_permanent_failure_leaves_no_timer_and_tells_no_password(rig: Rig) -> None:
    rig.phases.on("registry", DefinitionError("no flow, says secret"))
    rig.start()
    assert rig.ended() is None
    state = rig.state
    assert (state.status, state.attempts, rig.reason()) == ("failed_permanent", 1, "no flow, says ***")
    assert (state.next_attempt_at, rig.timers.pending) == (None, 0)
    rig.advance(3600)
    assert rig.state is state
    rig.board.await_ready(0)


# Messages that are too late, and those that ask


def test_stale_timed_messages_change_nothing(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    rig.start()
    rig.ended()
    old_job = rig.cell.job
    rig.board.retry_now("shop")
    assert rig.ended() is None
    state = rig.state
    assert rig.timers.pending == 1
    rig.advance(3600)
    for message in (
        RetryDue(1),
        RetryDue(99),
        PhaseReported(old_job),
        PhaseOverdue(old_job),
        PhaseOverdue(rig.cell.job),
    ):
        rig.cell.tell(message)
    rig.settle()
    assert rig.state is state
    assert (state.status, state.attempts) == ("succeeded", 2)


def test_a_report_told_twice_is_not_taken_for_that_of_the_next_phase(rig: Rig) -> None:
    registry, worker = hang(rig, "registry"), hang(rig, "worker")
    rig.start()
    assert registry.begun.wait(WAIT)
    job = rig.cell.job
    registry.let_go.set()
    assert worker.begun.wait(WAIT)
    state = rig.state
    rig.cell.tell(PhaseReported(job))
    rig.settle()
    assert rig.state is state
    assert state.phase == "worker"


def test_many_calls_to_retry_now_during_an_attempt_become_one_more(rig: Rig) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    for _ in range(100):
        rig.board.retry_now("shop")
    rig.settle()
    line.let_go.set()
    rig.ended()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_retry_now_while_waiting_does_not_wait_for_the_timer(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    line = hang(rig, "worker")
    rig.start()
    rig.ended()
    rig.board.retry_now("orders")
    assert line.begun.wait(WAIT)
    for _ in range(2):
        rig.board.retry_now("shop")
        rig.board.retry_now("nobody")
    rig.settle()
    line.let_go.set()
    rig.ended()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 3)


@pytest.mark.parametrize(
    ("error", "status"), [(None, "succeeded"), (AWAY, "retrying"), (DefinitionError("no"), "failed_permanent")]
)
def test_retry_now_on_a_succeeded_module_keeps_its_status_until_the_result(
    rig: Rig, error: Exception | None, status: str
) -> None:
    rig.start()
    rig.ended()
    line = hang(rig, "worker", error=error)
    rig.board.retry_now("shop")
    assert line.begun.wait(WAIT)
    assert (rig.state.status, rig.state.phase, rig.state.attempts) == ("succeeded", "worker", 2)
    assert rig.board.status().ready
    line.let_go.set()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == (status, 2)


def test_a_database_that_is_back_ends_the_wait(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    rig.start()
    rig.ended()
    rig.cell.tell(DatabaseBack())
    assert rig.ended() is None
    assert rig.state.attempts == 2


def test_a_lost_worker_makes_a_succeeded_module_retry_its_worker_phase(rig: Rig) -> None:
    rig.start()
    rig.ended()
    line = hang(rig, "worker")
    rig.cell.worker_deaths.append("RuntimeError: boom")
    rig.cell.tell(CellChanged())
    assert line.begun.wait(WAIT)
    assert (rig.state.status, rig.state.phase, rig.board.status().ready) == ("retrying", "worker", False)
    assert rig.reason() == "the worker died and is started again: RuntimeError: boom"
    line.let_go.set()
    rig.ended()
    assert (rig.state.status, rig.state.last_error) == ("succeeded", None)


# The trouble of its worker

STUCK = Trouble(TroubleKind.CLAIMS_REFUSED, "no right on secret", T0, "42501", TroubleScope.ALL)


def test_lasting_trouble_of_its_worker_makes_a_module_not_ready_and_its_end_ready_again(rig: Rig) -> None:
    rig.start()
    rig.ended()
    rig.trouble = STUCK
    rig.cell.tell(CellChanged())
    rig.settle()
    state = rig.state
    assert (state.status, state.phase, state.attempts, rig.reason()) == ("retrying", "worker", 1, "no right on ***")
    assert state.last_error is not None
    assert (state.last_error.error_type, state.last_error.at) == ("42501", T0)
    with pytest.raises(NotReadyError, match=r"shop: retrying, in phase worker, attempt 1, .*no right"):
        rig.board.await_ready(0)
    rig.cell.tell(DatabaseBack())
    rig.settle()
    assert rig.state is state
    rig.trouble = None
    rig.cell.tell(CellChanged())
    rig.settle()
    assert (rig.state.status, rig.state.phase, rig.state.attempts, rig.state.last_error) == ("succeeded", None, 1, None)
    assert rig.probe.began == [1]


def test_an_attempt_does_not_end_the_trouble_and_neither_does_a_crash_of_the_actor(rig: Rig) -> None:
    rig.start()
    rig.ended()
    rig.trouble = STUCK
    rig.cell.tell(CellChanged())
    rig.board.retry_now("shop")
    rig.ended()
    rig.settle()
    assert (rig.state.status, rig.state.phase, rig.state.attempts) == ("retrying", "worker", 2)
    rig.crash(lambda ref: ref.stop())
    rig.settle()
    assert (rig.state.status, rig.state.phase, rig.state.attempts) == ("retrying", "worker", 2)
    rig.trouble = None
    rig.crash(lambda ref: ref.stop())
    eventually(lambda: rig.state.status == "succeeded")
    assert rig.state.attempts == 2
