"""`FlowInputs`: a flow's input is read and proven once a run, kept for no other run, and decoded by who looks at it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter.core.definition import StepDefinition, StepKind
from pgflow_starter.core.task import LazyJson
from pgflow_starter.postgres.stores import inputs as inputs_module
from pgflow_starter.postgres.stores.inputs import FlowInputs

RUN = UUID(int=1)
STEPS = {
    "root": StepDefinition("root", lambda given, ctx: None),
    "each": StepDefinition("each", lambda given, ctx: None, depends_on=("root",), kind=StepKind.MAP),
    "last": StepDefinition("last", lambda given, ctx: None, depends_on=("root",)),
}


class Runs:
    """The runs in a database as a connection to it, and which of them were asked for."""

    def __init__(self) -> None:
        self.rows: dict[UUID, tuple[str, str]] = {}
        self.asked: list[UUID] = []
        self._now: list[UUID] = []

    def execute(self, _: str, parameters: tuple[list[UUID]]) -> Runs:
        self._now = parameters[0]
        self.asked += self._now
        return self

    def fetchall(self) -> list[tuple[UUID, str, str]]:
        return [(i, *self.rows[i]) for i in self._now if i in self.rows]


@pytest.fixture
def runs() -> Runs:
    return Runs()


def element(version: str | None, index: int = 0, run: UUID = RUN) -> tuple[Any, ...]:
    """A row of the map step, whose flow input no core hands over."""
    return (run, "each", index, 1, "1", None, 1, None, version)


def claimed(inputs: FlowInputs, runs: Runs, *rows: Any) -> list[Any]:
    conn: Any = runs
    return list(inputs.tasks(conn, "shop", STEPS, [(*row, None) for row in rows]))


def test_the_input_of_a_run_is_read_once_and_decoded_for_each_task_that_looks(runs: Runs) -> None:
    inputs = FlowInputs()
    runs.rows[RUN] = ("a", "[1]")
    first, second, *others = claimed(inputs, runs, *(element("a", i) for i in range(1000)))
    third = claimed(inputs, runs, element("a"))[0]
    assert runs.asked == [RUN]
    assert first.flow_input.data() is first.flow_input.data()
    first.flow_input.data().append("spoilt")
    assert second.flow_input.data() == third.flow_input.data() == [1]
    assert all(task.flow_input.text is first.flow_input.text for task in others)


def test_what_is_kept_is_kept_for_that_version_of_the_run_only(runs: Runs) -> None:
    inputs = FlowInputs()
    runs.rows[RUN] = ("a", '"old"')
    assert claimed(inputs, runs, element("a"))[0].flow_input.data() == "old"
    runs.rows[RUN] = ("b", '"new"')
    assert claimed(inputs, runs, element("b"))[0].flow_input.data() == "new"


def test_a_run_that_the_claim_did_not_see_is_read_and_kept_as_what_was_read(runs: Runs) -> None:
    inputs = FlowInputs()
    runs.rows[RUN] = ("a", '"first"')
    claimed(inputs, runs, element(None))
    claimed(inputs, runs, element("a"))
    assert runs.asked == [RUN]
    runs.rows[RUN] = ("b", '"anew"')
    assert claimed(inputs, runs, element(None))[0].flow_input.data() == "anew"


def test_an_input_that_came_with_a_task_is_not_read_and_is_the_tasks_own(runs: Runs) -> None:
    inputs = FlowInputs()
    rows = [(RUN, "last", 0, 1, '{"root": 1}', '{"a": 1}', 1, None, "a"), (RUN, "root", 0, 1, "{}", "[]", 1, None, "a")]
    last, root = claimed(inputs, runs, *rows)
    assert (last.input, last.flow_input.data()) == ({"root": 1}, {"a": 1})
    assert (root.input, root.flow_input) == ([], [])
    (older,) = claimed(inputs, runs, (RUN, "last", 0, 1, '{"root": 1, "run": [2]}', None, 1, None, "a"))
    assert (older.input, older.flow_input) == ({"root": 1}, [2])
    assert runs.asked == []


def test_an_input_that_cannot_be_read_is_proven_so_once_and_told_to_each_task(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: (decoded.append(text), loads(text))[1])  # type: ignore[func-returns-value]
    inputs, deep = FlowInputs(), "[" * 100_000 + "]" * 100_000
    runs.rows[RUN] = ("a", deep)
    tasks = claimed(inputs, runs, *(element("a", i) for i in range(3))) + claimed(inputs, runs, element("a"))
    assert {str(task.unreadable).partition(":")[0] for task in tasks} == {"RecursionError"}
    assert decoded.count(deep) == 1


def test_a_run_that_is_gone_is_not_run_on_nothing(runs: Runs) -> None:
    (task,) = claimed(FlowInputs(), runs, element("a"))
    assert task.unreadable == "its run is in the database no more"


def test_what_is_kept_is_bounded_and_the_newest_stays(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module, "CACHED_CHARACTERS", 10)
    inputs = FlowInputs()
    small, large, other, last = (UUID(int=n) for n in (1, 2, 3, 4))
    runs.rows = {small: ("a", '"small"'), large: ("a", json.dumps("x" * 20)), other: ("a", '"o"'), last: ("a", "1")}

    def asked_for(*claims: UUID) -> list[UUID]:
        runs.asked.clear()
        for run in claims:
            claimed(inputs, runs, element("a", run=run))
        return runs.asked

    assert asked_for(small, large, large, small, other, other, small) == [small, large, small, other]
    # that was ten characters to the last one: one more is too many
    assert asked_for(last, other, last, small, last) == [last, small]
    monkeypatch.setattr(inputs_module, "CACHED", 1)
    assert asked_for(other, other, last, other) == [other, last, other]


def test_lazy_json_that_was_never_asked_was_never_decoded() -> None:
    lazy = LazyJson("no JSON")
    with pytest.raises(ValueError, match="Expecting value"):
        lazy.data()
