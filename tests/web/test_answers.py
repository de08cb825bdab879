"""The database is asked one question at a time, and seldom; where it says nothing, what is known is told."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter import Outage, RunSummary, TransientError
from pgflow_starter.testing import ManualClock
from pgflow_starter.web import Application
from pgflow_starter.web.answers import BUSY, SHARE, SOON
from tests.web.stage import STARTED, Stage, run
from tests.web.test_http import asked

PATHS = ("/runs", f"/runs/{UUID(int=5)}", "/queues", "/workers", "/problems")


def told(app: Any, path: str) -> Any:
    status, _, body = asked(app, path)
    assert status == "200 OK"
    return json.loads(body)


@pytest.mark.parametrize("path", PATHS)
def test_an_outage_is_told_and_nobody_is_asked(path: str) -> None:
    stage = Stage(outage=Outage(STARTED, "refused"))
    answer = told(Application(stage, ManualClock()), path)
    assert (answer["as_of"], answer["error"]) == (None, "the database is away: refused")
    assert stage.asked == []


@pytest.mark.parametrize("path", PATHS)
def test_an_error_of_the_database_is_told_as_one(path: str) -> None:
    stage = Stage(runs=TransientError("it took\ntoo long"))
    assert told(Application(stage, ManualClock()), path)["error"] == "it took too long"


def test_each_question_is_asked_once_a_second_at_most() -> None:
    stage, clock = Stage(), ManualClock()
    app = Application(stage, clock)
    for _ in range(3):
        for path in ("/runs", "/runs?limit=5", "/queues"):
            told(app, path)
    assert len(stage.asked) == 3
    clock.advance(1.1)
    told(app, "/queues")
    assert len(stage.asked) == 4


def test_a_run_that_is_not_there_is_not_found() -> None:
    status, headers, body = asked(Application(Stage(), ManualClock()), f"/runs/{UUID(int=5)}")
    assert (status, headers["content-type"]) == ("404 Not Found", "application/json")
    assert json.loads(body) == {"error": f"there is no run {UUID(int=5)}"}
    for path in ("/runs/", "/runs/5", f"/runs/{UUID(int=5)}/", "/runs/../livez"):
        assert asked(Application(Stage(), ManualClock()), path)[0] == "404 Not Found"


class Hanging(Stage):
    """Its database answers when it is let go, which takes `took` seconds by the clock."""

    def __init__(self, clock: ManualClock, took: float) -> None:
        super().__init__(runs=(run(5, "order", "completed", {}),))
        self.begun, self.go, self.clock, self.took = threading.Event(), threading.Event(), clock, took

    def answer(self, patience: float) -> tuple[RunSummary, ...]:
        self.begun.set()
        assert self.go.wait(20)
        self.clock.advance(self.took)
        return super().answer(patience)


def test_another_question_waits_for_its_turn_and_not_for_long() -> None:
    clock = ManualClock()
    stage = Hanging(clock, 0.0)
    app = Application(stage, clock)
    first = threading.Thread(target=lambda: told(app, "/runs"))
    first.start()
    try:
        assert stage.begun.wait(10)
        assert told(app, "/runs")["error"] is None
        assert told(app, "/queues")["error"] == BUSY
        # Nothing is wrong with the database for that.
        assert told(app, "/problems")["problems"] == []
        assert stage.asked == []
    finally:
        stage.go.set()
        first.join()
    assert told(app, "/queues")["error"] is None


def test_what_takes_long_is_asked_seldom() -> None:
    clock = ManualClock()
    stage = Hanging(clock, 2.0)
    stage.go.set()
    app = Application(stage, clock)
    told(app, "/runs")
    clock.advance(2.0 * SHARE - 1)
    told(app, "/runs")
    assert len(stage.asked) == 1
    clock.advance(2.0)
    told(app, "/runs")
    assert len(stage.asked) == 2


def test_what_had_no_answer_for_long_is_asked_again_soon() -> None:
    clock = ManualClock()
    stage = Hanging(clock, 5.0)
    stage.go.set()
    stage.runs = TransientError("it fell silent")
    app = Application(stage, clock)
    assert told(app, "/runs")["error"] == "it fell silent"
    stage.runs = ()
    clock.advance(SOON + 1)
    assert told(app, "/runs")["error"] is None
