"""The dispatcher and the actors that take turns on it: in order, one message at a time, and none left behind."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pykka
import pytest

from pgflow_starter.supervision.dispatched import DispatchedActor
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.dispatcher import HANGS_AFTER, WIDTH, Dispatcher
from tests.support.waiting import eventually

WAIT = 10.0
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


class Stand:
    """A dispatcher on manual timers, and calls that hang until the test ends."""

    def __init__(self) -> None:
        self.threads, self.timers = ThreadCache("pgflow-test"), ManualTimers()
        self.dispatcher = Dispatcher(self.threads, self.timers, self.timers.clock)
        self.dispatcher.start()
        self.go_on = threading.Event()

    def hang(self, count: int) -> None:
        """So many of its threads are in calls that hang."""
        begun = threading.Semaphore(0)

        def call() -> None:
            begun.release()
            self.go_on.wait()

        for _ in range(count):
            self.dispatcher.put(call)
        for _ in range(count):
            assert begun.acquire(timeout=WAIT)

    def serves(self) -> threading.Event:
        """An event that a call sets."""
        served = threading.Event()
        self.dispatcher.put(served.set)
        return served

    @property
    def count(self) -> int:
        return self.dispatcher.counts()[0]

    def close(self) -> None:
        self.go_on.set()
        self.dispatcher.close()
        assert self.threads.close(WAIT) == 0


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    yield made
    made.close()


class Told(DispatchedActor):
    """Its messages are functions that it calls with itself."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher)
        self.heard: list[Any] = []

    def on_receive(self, message: Callable[[Told], Any]) -> Any:
        return message(self)


def itself(ref: pykka.ActorRef[Any]) -> Told:
    """The actor behind a ref."""
    actor = ref.ask(lambda actor: actor, timeout=WAIT)
    assert isinstance(actor, Told)
    return actor


# The dispatcher


def test_calls_wait_until_it_is_started_and_what_they_raise_ends_no_thread() -> None:
    threads, timers = ThreadCache("pgflow-test"), ManualTimers()
    dispatcher, done = Dispatcher(threads, timers, timers.clock), threading.Event()
    for _ in range(3 * WIDTH):
        dispatcher.put(lambda: 1 / 0)
    dispatcher.put(done.set)
    assert not done.is_set()
    dispatcher.start()
    assert done.wait(WAIT)
    dispatcher.close()
    assert threads.close(WAIT) == 0


def test_threads_that_hang_are_made_up_for_and_given_up_when_they_come_back(stand: Stand) -> None:
    stand.hang(WIDTH)
    served = stand.serves()
    stand.timers.advance(HANGS_AFTER)
    assert served.wait(WAIT)
    assert stand.count > WIDTH
    stand.go_on.set()
    eventually(lambda: stand.serves().wait(WAIT) and stand.count == WIDTH, what="the end of the surplus threads")


def test_many_that_hang_are_made_up_for_ever_faster(stand: Stand) -> None:
    begun = threading.Semaphore(0)

    def call() -> None:
        begun.release()
        stand.go_on.wait(6 * WAIT)

    for _ in range(100):
        stand.dispatcher.put(call)
    hanging = 0
    for _ in range(5):
        for _ in range(stand.count - hanging):
            assert begun.acquire(timeout=WAIT)
        hanging = stand.count
        stand.timers.advance(HANGS_AFTER)
        assert stand.count == 2 * hanging


def test_nobody_is_made_up_for_while_nobody_waits(stand: Stand) -> None:
    stand.hang(WIDTH)
    stand.timers.advance(10 * HANGS_AFTER)
    assert stand.count == WIDTH
    served = stand.serves()
    stand.timers.advance(HANGS_AFTER)
    assert served.wait(WAIT)


def test_an_idle_dispatcher_has_no_timer(stand: Stand) -> None:
    assert stand.serves().wait(WAIT)
    eventually(lambda: stand.dispatcher.counts() == (WIDTH, 0))
    stand.timers.advance(HANGS_AFTER)
    assert stand.timers.pending == 0


def test_without_a_thread_to_make_up_it_is_tried_again(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    stand.hang(WIDTH)
    served = stand.serves()
    with monkeypatch.context() as patched:
        patched.setattr(stand.threads, "run", no_thread)
        stand.timers.advance(HANGS_AFTER)
        here: list[int] = []
        stand.dispatcher.put_slow(lambda: here.append(threading.get_ident()))
        assert here == [threading.get_ident()]
    assert not served.is_set()
    stand.timers.advance(HANGS_AFTER)
    assert served.wait(WAIT)


def test_while_some_hang_there_are_still_threads_for_who_comes_next(stand: Stand) -> None:
    stand.hang(WIDTH)
    served = stand.serves()
    stand.timers.advance(HANGS_AFTER)
    assert served.wait(WAIT)
    for _ in range(20):
        assert stand.serves().wait(WAIT), "nobody serves until it is looked for those that hang"
    assert stand.count == 2 * WIDTH


def test_a_thread_whose_start_a_signals_exception_interrupts_ends_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, timers = ThreadCache("pgflow-test"), ManualTimers()
    dispatcher, run = Dispatcher(threads, timers, timers.clock), threads.run

    def interrupted(call: Callable[[], object]) -> None:
        run(call)
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.start()
    dispatcher.close()
    assert threads.close(WAIT) == 0


def test_a_call_is_made_although_there_is_no_thread_for_the_timers(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(stand.timers, "after", no_thread)
        stand.hang(WIDTH - 1)
        assert stand.serves().wait(WAIT)
    stand.hang(1)
    served = stand.serves()
    stand.timers.advance(HANGS_AFTER)
    assert served.wait(WAIT)


# The actors


def test_messages_of_many_senders_are_all_taken_one_at_a_time_and_in_order(stand: Stand) -> None:
    senders, each = 8, 500
    ref = Told.start(stand.dispatcher)
    inside: list[int] = []

    def send(sender: int) -> None:
        for number in range(each):

            def message(actor: Told, number: int = number) -> None:
                inside.append(number)
                assert len(inside) == 1, "two messages at a time"
                actor.heard.append((sender, number))
                inside.clear()

            ref.tell(message)

    threads = [threading.Thread(target=send, args=(i,)) for i in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    heard: list[tuple[int, int]] = ref.ask(lambda actor: actor.heard, timeout=WAIT)  # type: ignore[assignment] # asked
    assert len(heard) == senders * each
    for sender in range(senders):
        assert [n for s, n in heard if s == sender] == list(range(each))
    ref.stop()


def test_each_has_a_context_of_its_own_that_lasts(stand: Stand) -> None:
    refs = [Told.start(stand.dispatcher) for _ in range(3)]
    for i, ref in enumerate(refs):
        ref.ask(lambda _, i=i: variable.set(f"of {i}"), timeout=WAIT)
    for _ in range(5):
        assert [ref.ask(lambda _: variable.get(), timeout=WAIT) for ref in refs] == ["of 0", "of 1", "of 2"]
    assert variable.get() == ""
    for ref in refs:
        ref.stop()


def test_asks_that_race_with_its_end_are_all_answered(stand: Stand) -> None:
    for _ in range(100):
        ref = Told.start(stand.dispatcher)
        answers: list[pykka.Future[Any]] = []
        stopper = threading.Thread(target=ref.stop, kwargs={"block": False})
        stopper.start()
        with suppress(pykka.ActorDeadError):
            answers.extend(ref.ask(lambda _: "alive", block=False) for _ in range(50))
        for answer in answers:
            try:
                assert answer.get(timeout=WAIT) == "alive"
            except pykka.ActorDeadError:
                continue
        stopper.join(WAIT)


def test_one_that_is_abandoned_while_it_has_nothing_to_do_dies(stand: Stand) -> None:
    failed = threading.Event()

    class Failing(Told):
        def on_failure(self, *_: Any) -> None:
            failed.set()

    ref = Failing.start(stand.dispatcher)
    itself(ref).abandon()
    assert failed.wait(WAIT)
    assert not ref.is_alive()


def test_one_that_hangs_is_fenced_off_and_the_others_go_on(stand: Stand) -> None:
    hung, other = Told.start(stand.dispatcher), Told.start(stand.dispatcher)
    actor, begun = itself(hung), threading.Event()

    def hang(_: Told) -> None:
        begun.set()
        stand.go_on.wait(WAIT)

    answer = hung.ask(hang, block=False)
    assert begun.wait(WAIT)
    actor.abandon()
    with pytest.raises(pykka.Timeout, match="abandoned"):
        answer.get(timeout=WAIT)
    assert other.ask(lambda _: "alive", timeout=WAIT) == "alive"
    other.stop()
