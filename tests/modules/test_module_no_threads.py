"""A phase takes too long while there is no thread to be had: it is cancelled when there is one again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pgflow_starter.core.state import Phase
from pgflow_starter.threads.cache import AGAIN_INTERVAL, ThreadCache
from pgflow_starter.threads.lane import Lane
from tests.modules.rig import PHASE_TIMEOUT, WAIT, Hang, Rig, hang
from tests.support.waiting import eventually


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.stop()


def no_thread(_: object, call: Callable[[], object]) -> None:
    raise RuntimeError("can't start new thread")


def no_thread_for_the_lane(cache: ThreadCache, call: Callable[[], object], run: Callable[..., None]) -> None:
    if getattr(call, "__func__", None) is Lane._work:
        raise RuntimeError("can't start new thread")
    run(cache, call)


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
    run = ThreadCache.run
    pending = rig.timers.pending
    with monkeypatch.context() as patched:
        patched.setattr(ThreadCache, "run", lambda cache, call: no_thread_for_the_lane(cache, call, run))
        rig.advance(PHASE_TIMEOUT)
        assert rig.ended() == 1
        eventually(lambda: rig.timers.pending > pending)  # the abandoning, to be done again, and the next attempt
        assert ("other", Phase.WORKER) not in rig.phases.ran
    rig.advance(AGAIN_INTERVAL)
    assert line.cancelled.wait(WAIT)
    eventually(lambda: ("other", Phase.WORKER) in rig.phases.ran)
