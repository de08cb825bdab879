"""`/status` and `/runs`: what they say, and when the database is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pgflow_starter import (
    FastLaneState,
    Outage,
    Phase,
    RunSummary,
    StarterStopped,
    TransientError,
    Trouble,
    TroubleKind,
    TroubleScope,
    web,
)
from pgflow_starter.testing import ManualClock
from pgflow_starter.web import Application
from tests.web.client import get
from tests.web.stage import STARTED, Stage, flow, module, run, schedule, tree, worker
from tests.web.test_http import SCHEMAS, asked

TROUBLE = Trouble(TroubleKind.CLAIMS_REFUSED, "no", STARTED, "42501", TroubleScope.ALL)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def url(stage: Stage) -> Iterator[str]:
    with web.serve(stage, ":0") as server:
        yield server.url


def checked(url: str, path: str) -> Any:
    """The data at a path, which are as its schema says."""
    schema = get(url, f"{path}/schema")
    assert schema.headers["content-type"] == "application/schema+json"
    Draft202012Validator.check_schema(schema.data)
    answer = get(url, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    Draft202012Validator(schema.data, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(answer.data)
    return answer.data


def test_the_status_is_as_its_schema_says(stage: Stage, url: str) -> None:
    assert checked(url, "/status")["modules"] == []
    stage.modules = (
        module("order"),
        module("mail", "retrying", reason="locked"),
        module("late", "pending", slug=None, phase=Phase.REGISTRY),
        module("gone", "failed_permanent", reason="no such thing", code="DefinitionError"),
    )
    stage.workers_ = (worker("order", running=3, completed=9), worker("mail", alive=False, trouble=TROUBLE))
    stage.children = tree(["order", "mail"], restarts=2)
    stage.flows = (flow("order", {"a": [], "each": ["a"], "z": ["a", "each"]}), flow("mail", {"mail": []}, "job"))
    stage.outage = Outage(STARTED, "refused")
    stage.fast_lane = FastLaneState(on=False, reason="by the setting")
    stage.schedules = (schedule("nightly"), schedule("hourly", error="not in the database", next_at=None))
    data = checked(url, "/status")
    assert [m["status"] for m in data["modules"]] == ["succeeded", "retrying", "pending", "failed_permanent"]
    assert [w["lost"] for w in data["workers"]] == [False, True]
    assert [w["trouble"] for w in data["workers"]] == [None, TROUBLE.to_dict()]
    assert data["outage"]["reason"] == "refused"
    assert data["fast_lane"] == {"on": False, "reason": "by the setting"}
    assert [(s["last_result"], s["last_error"]) for s in data["schedules"]] == [
        ("started", None),
        ("failed", "not in the database"),
    ]
    assert data["children"][0] == {"id": "root", "parent": None, "type": "supervisor", "restarts": 0, "alive": True}
    assert data["flows"][0]["steps"][2] == {"slug": "z", "kind": "single", "depends_on": ["a", "each"]}
    stage.end = StarterStopped("the starter was stopped")
    answer = get(url, "/status")
    assert (answer.status, answer.data) == (
        503,
        {"error": "StarterStopped", "reason": "the starter was stopped"},
    )


def test_each_property_of_the_schemas_is_required_so_that_none_is_there_by_chance(url: str) -> None:
    def objects(schema: Any) -> Iterator[Any]:
        if isinstance(schema, dict):
            if "properties" in schema:
                yield schema
            for part in schema.values():
                yield from objects(part)
        elif isinstance(schema, list):
            for part in schema:
                yield from objects(part)

    for path in SCHEMAS:
        for each in objects(get(url, path).data):
            assert sorted(each["required"]) == sorted(each["properties"].keys() - {"payloads"})
            assert each["additionalProperties"] is False


def test_runs_are_told_as_their_schema_says(stage: Stage, url: str) -> None:
    assert checked(url, "/runs") == {**checked(url, "/runs"), "error": None, "runs": [], "next": None}


def test_a_run_says_where_its_steps_stand() -> None:
    stage = Stage(runs=(run(5, "order", "started", {"a": ("completed", 1, 0), "each": ("started", None, None)}),))
    with web.serve(stage, ":0") as server:
        (told,) = checked(server.url, "/runs")["runs"]
    assert told["ended_at"] is None
    assert told["steps"] == [
        {"slug": "a", "status": "completed", "tasks": 1, "remaining": 0, "reason": None},
        {"slug": "each", "status": "started", "tasks": None, "remaining": None, "reason": None},
    ]


def test_a_run_with_a_time_that_cannot_be_read_says_so() -> None:
    odd = replace(run(5, "order", "completed", {}), started_at=None, notes=("started_at cannot be read",))
    with web.serve(Stage(runs=(odd,)), ":0") as server:
        (told,) = checked(server.url, "/runs")["runs"]
    assert (told["started_at"], told["notes"]) == (None, ["started_at cannot be read"])


def runs_of(app: Application) -> Any:
    return json.loads(asked(app, "/runs")[2])


def test_the_database_is_asked_once_a_second_at_most_and_with_little_patience() -> None:
    stage, clock = Stage(), ManualClock()
    app = Application(stage, clock)
    for _ in range(3):
        runs_of(app)
    assert stage.asked == [1.0]
    clock.advance(1.1)
    stage.runs = (run(5, "order", "completed", {}),)
    assert [r["flow_slug"] for r in runs_of(app)["runs"]] == ["order"]
    assert len(stage.asked) == 2


def test_what_was_known_is_told_with_the_reason_when_the_database_fails() -> None:
    stage, clock = Stage(runs=(run(5, "order", "completed", {}),)), ManualClock()
    app = Application(stage, clock)
    known = runs_of(app)
    clock.advance(2)
    stage.runs = TransientError("the database cannot\nbe reached")
    assert runs_of(app) == {**known, "error": "the database cannot be reached"}
    assert len(stage.asked) == 2
    runs_of(app)
    assert len(stage.asked) == 2


def test_a_database_that_is_known_to_be_away_is_not_asked() -> None:
    stage = Stage(outage=Outage(STARTED, "refused"))
    told = runs_of(Application(stage, ManualClock()))
    assert told == {"as_of": None, "error": "the database is away: refused", "runs": [], "next": None}
    assert stage.asked == []


@dataclass(eq=False)
class Slow(Stage):
    """A starter whose database takes until it is let go."""

    def __post_init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def answer(self, patience: float) -> tuple[RunSummary, ...]:
        self.begun.set()
        assert self.go.wait(20)
        return super().answer(patience)


def test_while_one_waits_for_the_database_nobody_else_does() -> None:
    stage = Slow(runs=(run(5, "order", "completed", {}),))
    with web.serve(stage, ":0") as server:
        first: list[Any] = []
        waiting = threading.Thread(target=lambda: first.append(get(server.url, "/runs").data))
        waiting.start()
        try:
            assert stage.begun.wait(10)
            for _ in range(20):
                assert get(server.url, "/runs").data == {"as_of": None, "error": None, "runs": [], "next": None}
                assert get(server.url, "/readyz").status == get(server.url, "/status").status == 200
            assert stage.asked == []
        finally:
            stage.go.set()
            waiting.join()
    assert len(first[0]["runs"]) == len(stage.asked) == 1
