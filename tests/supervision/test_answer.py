"""The future that an ask returns: pykka's, but nobody who waits for it can hold up who answers."""

from __future__ import annotations

import signal
import threading
from queue import Full, SimpleQueue
from typing import Any

import pykka
import pytest

from pgflow_starter.supervision.inbox import Answer
from tests.supervision.world import PATIENCE, Stage, saying


class Interrupted(Exception):  # noqa: N818 - what a signal handler raises, like KeyboardInterrupt
    """Raised by a signal handler."""


def test_what_was_set_can_be_had_any_number_of_times() -> None:
    answer = Answer()
    answer.set([1])
    assert answer.get() is answer.get(timeout=0)


def test_an_error_is_raised_each_time_with_where_it_came_from() -> None:
    answer, error = Answer(), ValueError("no")
    answer.set_exception((ValueError, error, None))
    for _ in range(2):
        with pytest.raises(ValueError, match="no") as raised:
            answer.get()
        assert raised.value is error


def test_the_exception_being_handled_is_taken_where_none_is_given() -> None:
    answer = Answer()
    try:
        raise KeyError("this one")
    except KeyError:
        answer.set_exception()
    with pytest.raises(KeyError, match="this one"):
        answer.get()


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_no_answer_in_time_is_a_timeout_and_it_may_still_come(timeout: float) -> None:
    answer = Answer()
    with pytest.raises(pykka.Timeout):
        answer.get(timeout=timeout)
    answer.set("late")
    assert answer.get(timeout=timeout) == "late"


def test_the_first_answer_counts() -> None:
    answer = Answer()
    answer.set(1)
    with pytest.raises(Full):
        answer.set(2)
    with pytest.raises(Full):
        answer.set_exception((ValueError, ValueError("no"), None))
    assert answer.get() == 1


def test_of_many_who_set_it_one_succeeds_and_all_who_wait_get_that() -> None:
    answer = Answer()
    got: list[Any] = []
    refused: list[int] = []

    def setter(number: int) -> None:
        try:
            answer.set(number)
        except Full:
            refused.append(number)

    threads = [threading.Thread(target=lambda: got.append(answer.get(timeout=PATIENCE))) for _ in range(20)]
    threads += [threading.Thread(target=setter, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (len(got), len(set(got)), len(refused)) == (20, 1, 19)


def test_who_is_interrupted_just_when_it_comes_keeps_it_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Arrived(SimpleQueue[None]):
        """Between its two calls a signal's exception comes to the first who waits."""

        interrupted = False

        def get(self, block: bool = True, timeout: float | None = None) -> None:
            super().get(block, timeout)
            if not self.interrupted:
                self.interrupted = True
                raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr("pgflow_starter.supervision.inbox.SimpleQueue", Arrived)
        answer = Answer()
    ends = SimpleQueue[object]()

    def get() -> None:
        try:
            ends.put(answer.get())
        except Interrupted:
            ends.put("interrupted")

    threads = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    answer.set(1)
    assert {ends.get(timeout=PATIENCE) for _ in threads} == {"interrupted", 1}


def test_it_is_a_pykka_future_in_all_else() -> None:
    answer, hooked = Answer(), Answer()
    doubled = answer.map(lambda x: 2 * x)
    answer.set(21)
    assert doubled.get(timeout=1) == 42
    assert answer.join(doubled).get(timeout=1) == [21, 42]
    assert pykka.get_all([answer, doubled]) == [21, 42]
    hooked.set_get_hook(lambda timeout: timeout)
    assert hooked.get(timeout=3) == 3
    with pytest.raises(Full):
        hooked.set(1)


def test_a_signal_handler_that_raises_out_of_an_ask_harms_no_actor(stage: Stage) -> None:
    ref = stage.worker("a").start()
    armed = False
    interrupted = 0

    def handler(*_: object) -> None:
        if armed:
            raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for number in range(2000):
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + number % 40 * 3e-6)
            try:
                armed = True
                for _ in range(3):
                    ref.ask(saying("one that may be interrupted"), timeout=PATIENCE)
                armed = False
            except Interrupted:
                interrupted += 1
            armed = False
            assert ref.ask(saying(number), timeout=PATIENCE) == number
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 0
    ref.stop()
