"""A phase takes too long while there is no thread to be had: it is cancelled when there is one again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pgflow_starter.core.phases import Phase
from pgflow_starter.threads.cache import AGAIN_INTERVAL, ThreadCache
from pgflow_starter.threads.lane import Lane, LaneCall
from tests.modules.rig import PHASE_TIMEOUT, WAIT, Hang, Rig, hang
from tests.support.waiting import eventually


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.stop()


def no_thread(_: object, call: Callable[[], object]) -> None:
    raise RuntimeError("can't start new thread")


def no_thread_for_the_next_in_the_lane(patched: pytest.MonkeyPatch) -> None:
    leave, run = Lane.leave, ThreadCache.run
    leaving: set[threading.Thread] = set()

    def leaves(lane: Lane, place: LaneCall) -> bool:
        leaving.add(threading.current_thread())
        try:
            return leave(lane, place)
        finally:
            leaving.clear()

    def runs(cache: ThreadCache, call: Callable[[], object]) -> None:
        if threading.current_thread() in leaving:
            raise RuntimeError("can't start new thread")
        run(cache, call)

    patched.setattr(Lane, "leave", leaves)
    patched.setattr(ThreadCache, "run", runs)


def one_hangs_and_one_waits(rig: Rig) -> Hang:
    line, other = hang(rig, "worker"), hang(rig, "registry", module="other")
    rig.start("shop", "other", width=1)
    assert line.begun.wait(WAIT)
    other.let_go.set()
    eventually(lambda: rig.board.cells[1].machine.state.phase is Phase.WORKER)
    return line


def test_an_overdue_phase_is_cancelled_when_there_is_a_thread(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    line = one_hangs_and_one_waits(rig)
    actor = rig.cell.ref
    with monkeypatch.context() as patched:
        patched.setattr(ThreadCache, "run", no_thread)
        rig.advance(PHASE_TIMEOUT)
        assert rig.ended() == 1
    assert not line.cancelled.is_set()
    rig.advance(AGAIN_INTERVAL)
    assert line.cancelled.wait(WAIT)
    eventually(lambda: ("other", Phase.WORKER) in rig.phases.ran)
    assert rig.cell.ref is actor


def test_who_waits_behind_it_runs_when_there_is_a_thread(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    line = one_hangs_and_one_waits(rig)
    pending = rig.timers.pending
    with monkeypatch.context() as patched:
        no_thread_for_the_next_in_the_lane(patched)
        rig.advance(PHASE_TIMEOUT)
        assert rig.ended() == 1
        eventually(lambda: rig.timers.pending > pending)  # the cancelling, to be done again, and the next attempt
        assert ("other", Phase.WORKER) not in rig.phases.ran
    rig.advance(AGAIN_INTERVAL)
    assert line.cancelled.wait(WAIT)
    eventually(lambda: ("other", Phase.WORKER) in rig.phases.ran)
