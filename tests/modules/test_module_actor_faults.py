"""The module actor under phases that hang or raise anything, and after its own death."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
from pykka.messages import ProxyCall

from pgflow_starter import DefinitionError
from pgflow_starter.core.phases import Phase
from pgflow_starter.modules.messages import CellChanged
from tests.modules.rig import AWAY, PHASE_TIMEOUT, WAIT, Rig, hang
from tests.support.waiting import eventually


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.stop()


class MuteError(BaseException):
    """Not even an Exception, and without a text."""

    def __str__(self) -> str:
        raise RuntimeError

    def __repr__(self) -> str:
        return "MuteError()"


# Phases that hang


def test_the_attempt_after_a_hung_phase_begins_only_when_its_thread_has_ended(rig: Rig) -> None:
    line = hang(rig, "registry")
    rig.start()
    assert line.begun.wait(WAIT)
    rig.advance(PHASE_TIMEOUT)
    assert rig.ended() == 1
    assert (rig.state.status, rig.state.phase, rig.state.attempts) == ("retrying", None, 1)
    assert rig.reason() == "phase registry has not ended within 30 s"
    rig.advance(1)
    rig.board.retry_now("shop")
    rig.advance(3600)
    assert len(rig.phases.ran) == rig.state.attempts == 1
    assert rig.reason().endswith("30 s; the next attempt begins when it has ended")
    assert (rig.state.next_attempt_at, rig.timers.pending) == (None, 0)
    line.let_go.set()
    assert rig.ended() is None
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_a_hung_phase_that_ends_early_still_waits_for_the_timer_and_its_result_is_ignored(rig: Rig) -> None:
    line = hang(rig, "registry", error=DefinitionError("late"))
    rig.start()
    assert line.begun.wait(WAIT)
    rig.advance(PHASE_TIMEOUT)
    rig.ended()
    line.let_go.set()
    eventually(lambda: not rig.cell.machine.busy)
    assert (rig.state.status, rig.state.attempts) == ("retrying", 1)
    rig.advance(1)
    assert rig.ended() is None
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_an_overdue_phase_is_cancelled_and_gives_its_place_to_others(rig: Rig) -> None:
    line = hang(rig, "worker")
    other = hang(rig, "registry", module="other")
    rig.start("shop", "other", width=1)
    assert line.begun.wait(WAIT)
    other.let_go.set()
    eventually(lambda: rig.board.cells[1].machine.state.phase is Phase.WORKER)
    assert ("other", Phase.WORKER) not in rig.phases.ran
    rig.advance(PHASE_TIMEOUT)
    assert {rig.ended(), rig.ended()} == {1, None}  # the other's place comes free before it is told why
    assert line.cancelled.wait(WAIT)
    assert ("other", Phase.WORKER) in rig.phases.ran


def test_an_attempt_that_gets_no_thread_has_failed_and_is_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")

    line = hang(rig, "registry")
    rig.start()
    assert line.begun.wait(WAIT)
    with monkeypatch.context() as patch:
        patch.setattr(rig.threads, "run", no_thread)
        line.let_go.set()
        assert rig.ended() == 1
    assert (rig.state.status, rig.reason()) == (
        "retrying",
        "no thread for phase worker: can't start new thread",
    )
    rig.advance(1)
    rig.ended()
    assert rig.state.status == "succeeded"


# Exceptions that are no Exception


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MuteError()], ids=repr)
@pytest.mark.parametrize(("phase", "status"), [("registry", "failed_permanent"), ("worker", "retrying")])
def test_whatever_a_phase_raises_is_the_attempts_result_and_nobodys_end(
    rig: Rig, phase: str, status: str, error: BaseException
) -> None:
    rig.phases.on(phase, error)
    rig.start()
    ref = rig.cell.ref
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == (status, 1)
    assert rig.reason().startswith(type(error).__name__)
    assert rig.cell.ref is ref or ref is None
    rig.board.retry_now("shop")
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


# Crashes: the successor goes on where the dead one stood

KILLS: dict[str, Callable[[pykka.ActorRef[Any]], object]] = {
    "stopped from outside": lambda ref: ref.stop(block=False),
    "a message that raises": lambda ref: ref.tell(ProxyCall(attr_path=("no_such_thing",), args=(), kwargs={})),
}
kills = pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)


@kills
def test_a_crash_during_a_phase_keeps_the_attempt_and_takes_its_result(rig: Rig, kill: Callable[..., object]) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    rig.crash(kill)
    assert (rig.state.phase, rig.state.attempts) == ("worker", 1)
    line.let_go.set()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 1)
    assert len(rig.phases.ran) == 2


@kills
def test_a_phase_is_still_watched_after_a_crash(rig: Rig, kill: Callable[..., object]) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    rig.crash(kill)
    rig.advance(PHASE_TIMEOUT)
    assert rig.ended() == 1
    rig.crash(kill)
    line.let_go.set()
    eventually(lambda: not rig.cell.machine.busy)
    rig.advance(1)
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


@kills
def test_a_crash_between_attempts_changes_neither_their_number_nor_the_delay(
    rig: Rig, kill: Callable[..., object]
) -> None:
    rig.phases.on("worker", AWAY, AWAY)
    rig.start()
    rig.ended()
    rig.advance(0.5)
    rig.crash(kill)
    state = rig.state
    rig.advance(0.49)
    assert rig.state is state
    rig.advance(0.01)
    assert rig.ended() == 2
    rig.advance(1.99)
    assert rig.state.attempts == 2
    rig.advance(0.01)
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 3)


@kills
@pytest.mark.parametrize("error", [None, DefinitionError("no")], ids=["succeeded", "failed"])
def test_a_crash_after_the_end_changes_nothing(rig: Rig, kill: Callable[..., object], error: Exception | None) -> None:
    rig.phases.on("registry", error)
    rig.start()
    rig.ended()
    state = rig.state
    rig.crash(kill)
    rig.advance(3600)
    assert rig.state is state


def test_what_a_dead_actor_was_asked_is_done_by_its_successor(rig: Rig) -> None:
    rig.start()
    rig.ended()
    rig.cell.retry_wanted = True
    rig.crash(KILLS["stopped from outside"])
    rig.ended()
    assert rig.state.attempts == 2
    rig.cell.worker_deaths.append("boom")
    rig.crash(KILLS["stopped from outside"])
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 3)


def test_a_timer_that_fired_while_there_was_no_actor_is_armed_again(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    rig.start()
    rig.ended()
    with rig.without_actor():
        rig.timers.advance(1)
        assert rig.timers.pending == 0
    rig.advance(0)
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_a_phase_that_was_overdue_while_there_was_no_actor_is_watched_again(rig: Rig) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    with rig.without_actor():
        rig.timers.advance(PHASE_TIMEOUT)
        assert rig.timers.pending == 0
    assert (rig.state.phase, rig.state.attempts) == ("worker", 1)
    rig.advance(PHASE_TIMEOUT)
    assert rig.ended() == 1


def test_an_actor_that_dies_of_a_result_leaves_it_to_its_successor(rig: Rig) -> None:
    draws = deque([0.5])
    errors = deque([RuntimeError("no randomness")])

    def unit() -> float:
        if errors:
            raise errors.popleft()
        return draws.popleft()

    rig.unit = unit
    rig.phases.on("worker", AWAY)
    rig.start()
    assert rig.ended() == 1
    assert (rig.state.status, rig.state.attempts) == ("retrying", 1)


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3)], ids=repr)
def test_an_actor_that_dies_as_an_attempt_begins_has_begun_it(rig: Rig, error: BaseException) -> None:
    rig.probe.fail_once = error
    rig.start()
    eventually(lambda: rig.state.status.terminal)
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 1)
    assert len(rig.phases.ran) == 2


# The end


@pytest.mark.parametrize("error", [None, AWAY])
def test_what_the_end_of_the_starter_cuts_short_has_neither_failed_nor_goes_on(
    rig: Rig, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    line = hang(rig, "registry", error=error)
    rig.start()
    assert line.begun.wait(WAIT)
    before = rig.state
    rig.shutdown.begin(0.0)
    line.let_go.set()
    eventually(lambda: rig.cell.job.done)
    rig.cell.worker_deaths.append("it met the end")
    rig.board.retry_now("shop")
    rig.cell.tell(CellChanged())
    rig.advance(PHASE_TIMEOUT)
    assert rig.state is before
    assert len(rig.phases.ran) == 1
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
