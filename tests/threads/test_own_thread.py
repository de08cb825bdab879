"""A part's own thread: started where there is work, started again when it died, and ended with its part."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from pgflow_starter.threads.own_thread import OwnThread
from tests.threads.conftest import WAIT, Call, no_thread


class Mortal:
    """What a thread runs that dies of whatever is put here, and ends of None."""

    def __init__(self) -> None:
        self.lives: SimpleQueue[threading.Thread] = SimpleQueue()
        self.ends: SimpleQueue[BaseException | None] = SimpleQueue()

    def __call__(self) -> None:
        self.lives.put(threading.current_thread())
        error = self.ends.get(timeout=WAIT)
        if error is not None:
            raise error


def test_however_often_it_is_started_there_is_one_daemon_thread_of_that_name() -> None:
    run = Mortal()
    own = OwnThread("pgflow-test", run)
    for _ in range(3):
        own.start()
    thread = run.lives.get(timeout=WAIT)
    assert (thread.name, thread.daemon) == ("pgflow-test", True)
    run.ends.put(None)
    assert own.close()
    assert run.lives.empty()


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_its_death_is_told_on_its_thread_and_then_it_can_be_started_again(error: BaseException) -> None:
    run, deaths = Mortal(), SimpleQueue[tuple[BaseException, threading.Thread]]()
    own = OwnThread("pgflow-test", run)

    def died(reason: BaseException) -> None:
        own.start()  # there is none any more by now
        deaths.put((reason, threading.current_thread()))

    own.revive(died, needed=True)
    first = run.lives.get(timeout=WAIT)
    run.ends.put(error)
    assert deaths.get(timeout=WAIT) == (error, first)
    assert run.lives.get(timeout=WAIT) is not first
    run.ends.put(None)
    assert own.close()
    assert deaths.empty()


def test_it_is_known_for_what_it_is_though_the_thread_that_has_started_it_has_not_gone_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, start = SimpleQueue[bool](), threading.Thread.start
    looked = threading.Event()

    def look() -> None:
        known.put(own.is_it(threading.current_thread()))
        looked.set()

    def start_and_lag(thread: threading.Thread) -> None:
        start(thread)
        looked.wait(WAIT)

    own = OwnThread("pgflow-test", look)
    monkeypatch.setattr(threading.Thread, "start", start_and_lag)
    own.start()
    assert known.get(timeout=WAIT)
    assert own.close()


def test_it_is_not_revived_where_there_is_no_work_nor_started_once_it_is_closed() -> None:
    run = Mortal()
    own = OwnThread("pgflow-test", run)
    own.revive(lambda _: None, needed=False)
    assert own.close()
    own.start()
    own.revive(lambda _: None, needed=True)
    assert run.lives.empty()


def test_where_there_is_no_thread_the_next_start_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Mortal()
    own = OwnThread("pgflow-test", run)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="no thread"):
            own.start()
    own.start()
    run.lives.get(timeout=WAIT)
    run.ends.put(None)
    assert own.close()


@pytest.mark.parametrize("hangs", ["the test hangs", ""])
def test_one_that_does_not_end_is_left_behind_with_a_word_where_there_is_one(
    hangs: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pgflow_starter.threads.own_thread.CLOSE_TIMEOUT", 0.01)
    call = Call()
    own = OwnThread("pgflow-test", call, hangs=hangs)
    own.start()
    assert call.begun.wait(WAIT)
    try:
        assert not own.close()
        assert ("the test hangs: its thread is left to it" in caplog.text) == bool(hangs)
    finally:
        call.go_on.set()
    assert call.thread is not None
    call.thread.join(WAIT)
    assert own.close()


def test_closing_from_the_thread_itself_does_not_wait_for_its_end(caplog: pytest.LogCaptureFixture) -> None:
    ended = SimpleQueue[bool]()
    own = OwnThread("pgflow-test", lambda: ended.put(own.close()), hangs="the test hangs")
    own.start()
    assert ended.get(timeout=WAIT) is False
    assert own.close()
    assert "hangs" not in caplog.text
