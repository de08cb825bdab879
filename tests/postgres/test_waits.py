"""Waiting for runs: one question for all who wait, an answer as soon as there may be one, and an end for each."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter import DatabaseError, PgflowError, RunNotFoundError
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.runs import RunStatus
from pgflow_starter.postgres.client import waits as waits_module
from pgflow_starter.postgres.client.run import Run
from pgflow_starter.postgres.client.waits import Waits
from tests.support.waiting import eventually

WAIT = 10.0


def run(number: int, status: RunStatus = "started") -> Run:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    client: Any = None
    return Run(UUID(int=number), "shop", status, None, None, None, began, None, client)


class Database:
    """Knows which runs are finished, and what it was asked."""

    def __init__(self) -> None:
        self.finished: set[UUID] = set()
        self.gone: set[UUID] = set()
        self.silent = False
        self.asked: list[set[UUID]] = []
        self.error: PgflowError | None = None
        self.hangs = threading.Event()
        self.hangs.set()

    def look(self, run_ids: Collection[UUID], seconds: float) -> Mapping[UUID, str] | None:
        self.asked.append(set(run_ids))
        self.hangs.wait(WAIT)
        if self.error is not None:
            raise self.error
        if self.silent:
            return None
        return {i: "completed" if i in self.finished else "started" for i in run_ids if i not in self.gone}


class Rig:
    def __init__(self) -> None:
        self.database = Database()
        self.waits = Waits(SystemClock())
        self.ended: dict[int, Any] = {}
        self.threads: list[threading.Thread] = []

    def wait(self, number: int, timeout: float | None) -> str:
        return self.waits.wait(run(number), timeout, self.database.look)

    def start(self, number: int, timeout: float | None = WAIT, database: Database | None = None) -> threading.Thread:
        look = (database or self.database).look

        def wait() -> None:
            try:
                self.ended[number] = self.waits.wait(run(number), timeout, look)
            except Exception as error:
                self.ended[number] = error

        thread = threading.Thread(target=wait)
        self.threads.append(thread)
        thread.start()
        return thread

    def finish(self, *numbers: int) -> None:
        self.database.finished |= {UUID(int=n) for n in numbers}

    def join(self) -> None:
        for thread in self.threads:
            thread.join(WAIT)
            assert not thread.is_alive()


def test_a_finished_run_is_not_asked_for() -> None:
    rig = Rig()
    assert rig.waits.wait(run(1, "failed"), 0, rig.database.look) == "failed"
    assert rig.database.asked == []


def test_all_who_wait_are_asked_for_in_one_question_and_each_gets_its_own_run() -> None:
    rig = Rig()
    for number in range(1, 21):
        rig.start(number)
    eventually(lambda: rig.database.asked and len(rig.database.asked[-1]) == 20)
    rig.finish(3, 5)
    eventually(lambda: set(rig.ended) == {3, 5})
    rig.finish(*range(1, 21))
    rig.join()
    assert rig.ended == dict.fromkeys(range(1, 21), "completed")


def test_when_who_asks_leaves_another_goes_on() -> None:
    rig = Rig()
    first = rig.start(1)
    eventually(lambda: rig.database.asked)
    rig.start(2)
    rig.start(2)
    rig.finish(1)
    first.join(WAIT)
    rig.finish(2)
    rig.join()
    assert rig.ended == {1: "completed", 2: "completed"}


def test_a_word_from_a_worker_has_the_database_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits_module, "LAST_PAUSE", 60.0)
    rig = Rig()
    rig.start(1)
    rig.start(2)
    # from now on the pause is more than two seconds
    eventually(lambda: len(rig.database.asked) >= 7)
    rig.finish(2)
    before = len(rig.database.asked)
    rig.waits.may_have_ended([UUID(int=2), UUID(int=99)])
    eventually(lambda: 2 in rig.ended)
    assert len(rig.database.asked) == before + 1
    rig.finish(1)
    rig.waits.may_have_ended([UUID(int=1)])
    rig.join()


def test_a_word_that_comes_while_the_database_is_asked_is_not_lost() -> None:
    rig = Rig()
    rig.database.hangs.clear()
    rig.start(1)
    eventually(lambda: rig.database.asked)
    rig.waits.may_have_ended([UUID(int=1)])
    asked = len(rig.database.asked)
    rig.database.hangs.set()
    eventually(lambda: len(rig.database.asked) > asked)
    rig.finish(1)
    rig.join()


def test_nobody_waits_for_longer_than_it_said_though_the_question_hangs() -> None:
    rig = Rig()
    rig.start(1, None)
    rig.database.hangs.clear()
    eventually(lambda: rig.database.asked)
    with pytest.raises(TimeoutError, match=r"run 0+-0000-0000-0000-0+2 of flow 'shop' is still started after 0.1 s"):
        rig.wait(2, 0.1)
    rig.finish(1)
    rig.database.hangs.set()
    rig.join()


def test_even_who_does_not_want_to_wait_has_the_database_asked_once() -> None:
    rig = Rig()
    rig.finish(1)
    assert rig.wait(1, 0) == "completed"
    with pytest.raises(TimeoutError):
        rig.wait(2, 0)
    assert len(rig.database.asked) == 2


def test_an_error_is_raised_to_all_who_wait() -> None:
    rig = Rig()
    rig.database.error = DatabaseError("no privilege", sqlstate="42501")
    for number in (1, 2):
        rig.start(number)
    rig.join()
    assert [str(rig.ended[n]) for n in (1, 2)] == ["no privilege"] * 2


def test_a_run_that_was_deleted_ends_its_own_waits_only() -> None:
    rig = Rig()
    for number in (1, 2, 2):
        rig.start(number, None)
    eventually(lambda: rig.database.asked and len(rig.database.asked[-1]) == 2)
    rig.database.gone.add(UUID(int=2))
    eventually(lambda: 2 in rig.ended)
    rig.finish(1)
    rig.join()
    assert isinstance(rig.ended[2], RunNotFoundError)
    assert str(rig.ended[2]) == f"run {UUID(int=2)} of flow 'shop' was deleted"
    assert rig.ended[1] == "completed"


def test_a_run_that_is_not_known_to_be_committed_is_waited_for_until_it_was_seen() -> None:
    rig = Rig()
    lost = replace(run(1), committed=False)
    rig.database.gone.add(lost.id)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            rig.waits.wait(lost, 0, rig.database.look)
    rig.database.gone.clear()
    with pytest.raises(TimeoutError):
        rig.waits.wait(lost, 0, rig.database.look)
    rig.database.gone.add(lost.id)
    with pytest.raises(RunNotFoundError):
        rig.waits.wait(lost, None, rig.database.look)


def test_a_database_that_does_not_answer_says_nothing_about_a_run() -> None:
    rig = Rig()
    rig.database.silent = True
    with pytest.raises(TimeoutError, match="still started"):
        rig.wait(1, 0.1)
    assert rig.database.asked


def test_closing_ends_all_waits_those_to_come_included() -> None:
    rig = Rig()
    for number in (1, 2, 3):
        rig.start(number, None)
    eventually(lambda: rig.database.asked and len(rig.database.asked[-1]) == 3)
    rig.waits.close(PgflowError("closed"))
    rig.join()
    assert [str(rig.ended[n]) for n in (1, 2, 3)] == ["closed"] * 3
    with pytest.raises(PgflowError, match="closed"):
        rig.wait(4, None)


def test_a_wait_that_was_interrupted_leaves_nothing_behind() -> None:
    rig = Rig()

    class InterruptedWaitError(Exception):
        pass

    def interrupt(*_: object) -> Mapping[UUID, str]:
        raise InterruptedWaitError

    with pytest.raises(InterruptedWaitError):
        rig.waits.wait(run(1), None, interrupt)
    rig.finish(2)
    assert rig.wait(2, 0) == "completed"  # nobody else leads
    assert rig.database.asked == [{UUID(int=2)}]


@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Rig, Database]]:
    """Who waits for run 1 leads, and is in a look at a database of its own that hangs; run 2's has taken over."""
    monkeypatch.setattr(waits_module, "LIFE_SIGN", 0.5)
    monkeypatch.setattr(waits_module, "LAST_PAUSE", 0.05)
    rig, slow = Rig(), Database()
    slow.finished = rig.database.finished
    slow.hangs.clear()
    rig.start(1, None, slow)
    eventually(lambda: slow.asked)
    rig.start(2)
    eventually(lambda: rig.database.asked)
    try:
        yield rig, slow
    finally:
        rig.finish(1, 2)
        slow.hangs.set()
        rig.join()


def test_from_who_asks_and_shows_no_sign_of_life_another_takes_it_over(overtaken: tuple[Rig, Database]) -> None:
    rig, _ = overtaken
    rig.finish(2)
    eventually(lambda: rig.ended)
    assert rig.ended == {2: "completed"}
    rig.finish(3)
    assert rig.wait(3, 0) == "completed"
    assert set().union(*rig.database.asked) == {UUID(int=2), UUID(int=3)}  # for the dead it is not asked


def test_who_was_only_slow_and_taken_for_dead_waits_on(overtaken: tuple[Rig, Database]) -> None:
    rig, slow = overtaken
    slow.hangs.set()
    eventually(lambda: {UUID(int=1), UUID(int=2)} in rig.database.asked + slow.asked)
    rig.finish(1, 2)
    rig.join()
    assert rig.ended == {1: "completed", 2: "completed"}
