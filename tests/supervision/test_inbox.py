"""No ask is left without an answer, however the actor ends."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from pgflow_starter.supervision.inbox import Inbox
from tests.supervision.world import PATIENCE, Stage, raising, saying, waiting

ROUNDS = 60
ASKS = 100


@pytest.fixture(autouse=True)
def eager_switching() -> Iterator[None]:
    """Let threads take turns so often that a race is likely."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


ENDS: dict[str, Callable[[pykka.ActorRef[Any]], object]] = {
    "stop": lambda ref: ref.stop(block=False),
    "death": lambda ref: ref.tell(raising(ValueError("dead"))),
    "exit": lambda ref: ref.tell(raising(SystemExit(1))),
    "death_in_an_ask": lambda ref: ref.ask(raising(SystemExit(1)), block=False),
    "two_stops": lambda ref: (ref.stop(block=False), ref.stop(block=False)),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_thousands_of_asks_against_an_end_are_all_answered(
    stage: Stage, end: Callable[[pykka.ActorRef[Any]], object]
) -> None:
    executed = answered = dead = 0
    for _ in range(ROUNDS):
        ref = stage.worker("a").start()
        asked: list[pykka.Future[Any]] = []
        ready = threading.Barrier(2)

        def ask(ref: Any, asked: list[pykka.Future[Any]], ready: threading.Barrier) -> None:
            ready.wait(PATIENCE)
            asked += [ref.ask(lambda puppet: puppet.__dict__.setdefault("seen", []), block=False) for _ in range(ASKS)]

        asker = threading.Thread(target=ask, args=(ref, asked, ready))
        asker.start()
        ready.wait(PATIENCE)
        end(ref)
        asker.join(PATIENCE)
        for future in asked:
            try:
                future.get(timeout=PATIENCE)
                answered += 1
            except pykka.ActorDeadError:
                dead += 1
        executed += len(asked)
    assert answered + dead == executed == ROUNDS * ASKS


def test_an_ask_that_finds_the_actor_dead_was_never_executed(stage: Stage) -> None:
    executed: list[int] = []
    for number in range(ROUNDS):
        ref = stage.worker("a").start()
        threading.Thread(target=ref.stop).start()
        future = ref.ask(lambda _, n=number: executed.append(n), block=False)
        try:
            future.get(timeout=PATIENCE)
            assert number in executed
        except pykka.ActorDeadError:
            assert number not in executed


def test_who_asks_while_the_actor_takes_its_time_to_stop_is_not_kept_waiting(stage: Stage) -> None:
    stage.plan("a on_stop", waiting("a may stop"))
    ref = stage.worker("a").start()
    ref.tell(waiting("a may go on"))
    stage.journal.await_entry("waits for a may go on")
    stops = [ref.stop(block=False)]
    behind = ref.ask(saying("hello"), block=False)
    stops.append(ref.stop(block=False))
    stage.event("a may go on").set()
    stage.journal.await_entry("waits for a may stop")
    with pytest.raises(pykka.ActorDeadError):
        behind.get(timeout=PATIENCE)
    with pytest.raises(pykka.Timeout):
        stops[1].get(timeout=0)
    stage.event("a may stop").set()
    assert [stop.get(timeout=PATIENCE) for stop in stops] == [True, True]


def test_messages_before_a_stop_are_carried_out(stage: Stage) -> None:
    ref = stage.worker("a").start()
    asked = [ref.ask(saying(n), block=False) for n in range(100)]
    ref.stop()
    assert pykka.get_all(asked, timeout=PATIENCE) == list(range(100))


def test_an_answer_that_somebody_else_gave_harms_nobody(stage: Stage) -> None:
    ref = stage.worker("a").start()
    ref.tell(waiting("answered"))
    future = ref.ask(saying("late"), block=False)
    future.set("early")
    stage.event("answered").set()
    assert ref.ask(saying("well"), timeout=PATIENCE) == "well"
    assert future.get() == "early"
    ref.stop()


def test_an_answer_that_somebody_else_gave_hides_no_death(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    ref = top.child("a")
    ref.tell(waiting("answered"))
    stage.journal.await_entry("waits for answered")
    ref.tell(raising(ValueError("dead")))
    first, second = ref.ask(saying(1), block=False), ref.ask(saying(2), block=False)
    first.set("early")
    stage.event("answered").set()
    top.await_end_of("a")
    assert top.restarts() == {"a": 1}
    with pytest.raises(pykka.ActorDeadError):
        second.get(timeout=PATIENCE)


def test_a_closed_inbox_answers_at_once() -> None:
    inbox = Inbox()
    inbox.close(ended=True)
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    inbox.put(Envelope("hello", reply_to=future))
    with pytest.raises(pykka.ActorDeadError):
        future.get(timeout=0)
    inbox.close(ended=True)


def test_a_signal_handler_may_send_while_its_thread_sends(stage: Stage) -> None:
    ref = stage.worker("a").start()
    told = 0

    def handler(*_: object) -> None:
        nonlocal told
        ref.tell(lambda _: None)
        told += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        while told < 200:
            assert ref.ask(saying(told), timeout=PATIENCE) is not None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    ref.stop()


def _answers(ref: pykka.ActorRef[Any]) -> bool:
    try:
        return bool(ref.ask(saying("hello"), timeout=PATIENCE))
    except pykka.ActorDeadError:
        return False


def test_a_signal_handler_may_stop_what_its_thread_asks(stage: Stage) -> None:
    for _ in range(100):
        ref = stage.worker("a").start()
        before = signal.signal(signal.SIGALRM, lambda *_, ref=ref: ref.stop(block=False))
        signal.setitimer(signal.ITIMER_REAL, 2e-4)
        try:
            while _answers(ref):
                pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
