"""`Tally`: which outcomes may end a run, and what becomes of those that could not be asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter import FlowDefinition, StepDefinition
from pgflow_starter.core.definition import StepKind
from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.testing import ManualTimers
from pgflow_starter.worker import tally
from pgflow_starter.worker.tally import Tally, may_end_run, retries


def handler(given: Any, ctx: Any) -> None: ...


FLOW = FlowDefinition(
    "shop",
    (
        StepDefinition("first", handler),
        StepDefinition("list", handler, depends_on=("first",)),
        StepDefinition("each", handler, StepKind.MAP, depends_on=("list",)),
        StepDefinition("last", handler, depends_on=("each",)),
    ),
    max_attempts=2,
)
CONDITIONAL = FlowDefinition(
    "maybe", (StepDefinition("first", handler), StepDefinition("then", handler, depends_on=("first",), if_={"a": 1}))
)


def outcome(step: str, kind: OutcomeKind = OutcomeKind.COMPLETED, *, attempt: int = 1, run: int = 1) -> Outcome:
    return Outcome(Task(UUID(int=run), "shop", step, 0, 1, attempt, None, None), kind)


@pytest.mark.parametrize(
    ("flow", "ended", "may"),
    [
        (FLOW, outcome("first"), False),
        (FLOW, outcome("list"), True),  # the map may not be able to take it
        (FLOW, outcome("each"), False),
        (FLOW, outcome("last"), True),
        (FLOW, outcome("first", OutcomeKind.FAILED, attempt=2), True),
        (FLOW, outcome("first", OutcomeKind.FAILED_FOR_GOOD), True),
        (FLOW, outcome("last", OutcomeKind.SNOOZED), False),
        (FLOW, outcome("last", OutcomeKind.IGNORED), False),
        (CONDITIONAL, outcome("first"), True),  # the other may be skipped
    ],
)
def test_an_outcome_may_end_its_run_where_nothing_is_sure_to_follow(
    flow: FlowDefinition, ended: Outcome, may: bool
) -> None:
    assert may_end_run(flow, ended) is may


def test_an_attempt_is_a_retry_only_where_there_is_another() -> None:
    failed = OutcomeKind.FAILED
    assert [retries(FLOW, outcome("first", failed, attempt=n)) for n in (1, 2)] == [True, False]
    assert not retries(FLOW, outcome("first", OutcomeKind.FAILED_FOR_GOOD))
    assert not retries(FLOW, outcome("unknown", failed))


class Told:
    """`ports.TallyObserver`, and `ports.RunEndStore` that fails so many times."""

    def __init__(self, *, heard: bool = True, fails: int = 0) -> None:
        self.heard = heard
        self.fails = fails
        self.asked: list[list[TaskKey]] = []
        self.counts: list[tuple[str, str, int]] = []
        self.workers = set[UUID]()
        self.retries: list[str] = []

    def retried(self, task: Task) -> None:
        self.retries.append(task.step_slug)

    def runs_ended(self, flow_slug: str, status: str, count: int) -> None:
        self.counts.append((flow_slug, status, count))

    def ended_by(self, tasks: Sequence[TaskKey], workers: Collection[UUID]) -> Mapping[tuple[str, str], int]:
        self.asked.append(list(tasks))
        self.workers = set(workers)
        if self.fails:
            self.fails -= 1
            raise DatabaseError("away", connection_lost=True)
        return {("shop", "completed"): len(tasks)}


class Threads:
    """What is run is run at once."""

    def run(self, call: Any) -> None:
        call()


def made(told: Told) -> tuple[Tally, ManualTimers]:
    timers, threads = ManualTimers(), Threads()
    return Tally(told, told, timers, threads), timers  # type: ignore[arg-type] # as much of it as is used


def test_the_counts_of_a_flow_begin_at_none() -> None:
    told = Told()
    counting, _ = made(told)
    for _ in range(2):
        counting.note(FLOW, (), ())
    assert told.counts == [("shop", "completed", 0), ("shop", "failed", 0)]


def test_what_could_not_be_asked_for_is_asked_for_again_with_what_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally, "BATCH", 2)
    told = Told(fails=1)
    counting, timers = made(told)
    counting.note(FLOW, [outcome("last", run=n) for n in range(3)], [UUID(int=8)])
    timers.advance(tally.INTERVAL)
    assert len(told.asked) == 1
    counting.note(FLOW, [outcome("last", run=3), outcome("first"), outcome("first", OutcomeKind.FAILED)], [UUID(int=9)])
    timers.advance(tally.INTERVAL)
    assert told.workers == {UUID(int=8), UUID(int=9)}
    assert sum(count for *_, count in told.counts) == 4
    assert sorted(run.int for keys in told.asked[1:] for run, *_ in keys) == [0, 1, 2, 3]
    assert told.retries == ["first"]
    timers.advance(10 * tally.INTERVAL)
    assert len(told.asked) == 3


def test_the_tasks_of_a_run_are_asked_for_together_for_it_may_have_ended_with_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally, "BATCH", 2)
    told = Told()
    counting, timers = made(told)
    counting.note(FLOW, [outcome("last", run=n) for n in (1, 2, 2, 2, 3, 1)], ())
    timers.advance(tally.INTERVAL)
    assert [[run.int for run, *_ in keys] for keys in told.asked] == [[1, 1], [2, 2, 2], [3]]


def test_at_the_end_the_last_are_asked_for_at_once_and_no_more_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally, "LAST", 2)
    for fails, counts in ((0, [("shop", "completed", 2)]), (1, [])):
        told = Told(fails=fails)
        counting, _ = made(told)
        counting.note(FLOW, [outcome("last", run=n) for n in range(3)], ())
        del told.counts[:]
        counting.close()
        assert ([run.int for run, *_ in told.asked[0]], told.counts) == ([1, 2], counts)


def test_where_nobody_listens_nothing_is_kept() -> None:
    told = Told(heard=False)
    counting, timers = made(told)
    counting.note(FLOW, [outcome("last"), outcome("first", OutcomeKind.FAILED)], ())
    counting.note_ended([EndedRun(UUID(int=1), "shop", "failed", 1.0, 2.0, None)])
    timers.advance(tally.INTERVAL)
    counting.close()
    assert (told.asked, told.counts, told.retries) == ([], [], [])
