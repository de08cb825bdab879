"""Waiting for runs without a thread for each: who waits is called, and one thread looks for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter import PgflowError, RunNotFoundError
from pgflow_starter.postgres.client.waiter import Wait
from pgflow_starter.threads.awaited import Awaited
from pgflow_starter.threads.off_main import NoThreadError
from tests.postgres.test_waits import Rig, run
from tests.support.waiting import eventually

WAIT = 30.0


class Called(Rig):
    """Who waits by being called, too."""

    def __init__(self) -> None:
        super().__init__()
        self.threads_for_called = Awaited("pgflow-test", 1)
        self.brought = 0
        self.calls: SimpleQueue[int] = SimpleQueue()
        self.gone = set[int]()

    def watch(self, number: int) -> Wait:
        def bring(call: Any) -> None:
            self.threads_for_called.run(call)
            self.brought += 1

        called, gone = partial(self.calls.put, number), partial(self.gone.__contains__, number)
        return self.waits.watch(run(number), called, gone, self.database.look, bring)


@pytest.fixture
def rig() -> Iterator[Called]:
    called = Called()
    yield called
    called.waits.close(PgflowError("the test is over"))
    called.threads_for_called.close()
    called.join()


def test_one_thread_looks_for_all_and_who_has_ended_is_called(rig: Called) -> None:
    waits = {number: rig.watch(number) for number in range(1, 1001)}
    eventually(lambda: rig.database.asked and len(rig.database.asked[-1]) == 1000)
    rig.finish(7)
    assert rig.calls.get(timeout=WAIT) == 7
    assert (waits[7].status, waits[7].error, waits[8].finished) == ("completed", None, False)
    rig.waits.leave(waits[7])
    rig.finish(*range(1, 1001))
    assert sorted(rig.calls.get(timeout=WAIT) for _ in range(999)) == [n for n in range(1, 1001) if n != 7]
    assert rig.brought == 1


def test_the_thread_goes_when_nobody_waits_and_the_next_brings_another(rig: Called) -> None:
    for number in (1, 2):
        wait = rig.watch(number)
        rig.finish(number)
        assert rig.calls.get(timeout=WAIT) == number
        rig.waits.leave(wait)
        eventually(lambda: rig.database.asked)
    eventually(lambda: not _looks(rig))


def test_for_who_is_gone_without_a_word_nobody_looks(rig: Called) -> None:
    for number in (1, 2):
        rig.watch(number)
    eventually(lambda: rig.database.asked and rig.database.asked[-1] == {UUID(int=1), UUID(int=2)})
    rig.gone.add(1)
    eventually(lambda: rig.database.asked[-1] == {UUID(int=2)})
    rig.gone.add(2)
    eventually(lambda: not _looks(rig))


def _looks(rig: Called) -> bool:
    before = len(rig.database.asked)
    threading.Event().wait(0.1)
    return len(rig.database.asked) > before


def test_whose_time_is_over_is_called_by_the_next_look(rig: Called) -> None:
    for number in (1, 2):
        rig.watch(number)
    rig.watch(3).over = True
    assert rig.calls.get(timeout=WAIT) == 3
    assert rig.database.asked


def test_a_deleted_run_and_an_error_of_looking_are_told(rig: Called) -> None:
    wait = rig.watch(1)
    eventually(lambda: rig.database.asked)
    rig.database.gone.add(UUID(int=1))
    assert rig.calls.get(timeout=WAIT) == 1
    assert isinstance(wait.error, RunNotFoundError)
    rig.waits.leave(wait)
    rig.database.error = PgflowError("no right to read")
    wait = rig.watch(2)
    assert rig.calls.get(timeout=WAIT) == 2
    assert wait.error is rig.database.error


def test_what_nobody_foresaw_is_told_to_all_and_the_next_brings_another_thread(
    rig: Called, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Any = LookupError("a fault of ours")
    rig.database.error = broken
    wait = rig.watch(1)
    assert rig.calls.get(timeout=WAIT) == 1
    assert str(wait.error) == "waiting for runs failed: LookupError: a fault of ours"
    rig.waits.leave(wait)
    rig.database.error = None
    rig.finish(2)
    rig.watch(2)
    assert rig.calls.get(timeout=WAIT) == 2
    eventually(lambda: "a fault of ours" in caplog.text)


def test_they_and_who_waits_on_a_thread_ask_together_whoever_of_them_leads(rig: Called) -> None:
    first = rig.start(1)
    eventually(lambda: rig.database.asked)
    second = rig.watch(2)
    eventually(lambda: rig.database.asked[-1] == {UUID(int=1), UUID(int=2)})
    rig.finish(1)
    first.join(WAIT)
    eventually(lambda: rig.database.asked[-1] == {UUID(int=2)})
    third = rig.start(3)
    eventually(lambda: rig.database.asked[-1] == {UUID(int=2), UUID(int=3)})
    rig.finish(2)
    assert rig.calls.get(timeout=WAIT) == 2
    rig.waits.leave(second)
    rig.finish(3)
    third.join(WAIT)
    assert rig.ended == {1: "completed", 3: "completed"}


def test_a_word_from_a_worker_has_the_database_asked_for_them(rig: Called) -> None:
    rig.watch(1)
    eventually(lambda: len(rig.database.asked) >= 6)  # from now on the pause is half a second
    rig.finish(1)
    rig.waits.may_have_ended([UUID(int=1)])
    assert rig.calls.get(timeout=WAIT) == 1


def test_who_is_to_be_called_is_so_at_the_end_and_later_refused(rig: Called) -> None:
    wait = rig.watch(1)
    over = PgflowError("the client was closed")
    rig.waits.close(over)
    assert rig.calls.get(timeout=WAIT) == 1
    assert not wait.finished
    with pytest.raises(PgflowError) as raised:
        rig.watch(2)
    assert raised.value is rig.waits.closed is over


def test_where_there_is_no_thread_that_is_raised_and_nobody_waits(rig: Called) -> None:
    rig.threads_for_called.close()
    with pytest.raises(NoThreadError):
        rig.watch(1)
    rig.finish(2)
    assert rig.wait(2, WAIT) == "completed"
    assert rig.database.asked[-1] == {UUID(int=2)}
