"""Executing a handler: what it learns, and what becomes of whatever it does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pgflow_starter import FlowDefinition, PermanentError, Snooze, StepDefinition, TaskContext
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.worker.execution import execute
from tests.worker.outbox_rig import RUN, task

WAIT = 10.0


def run(handler: Callable[[Any, Any], Any], of: Task | None = None) -> Outcome:
    definition = FlowDefinition("shop", (StepDefinition("a", handler),))
    return execute(definition.steps[0], of or task(7), 12.5, threading.Event())[0]


def test_a_handler_learns_what_the_contract_names() -> None:
    seen: list[Any] = []

    def handler(given: Any, ctx: TaskContext) -> Any:
        seen.extend((given, ctx))
        return {"out": [1]}

    outcome = run(handler)
    given, ctx = seen
    assert isinstance(ctx, TaskContext)
    assert given == {"in": 1}
    assert (ctx.run_id, ctx.flow_slug, ctx.step_slug, ctx.task_index) == (RUN, "shop", "a", 7)
    assert (ctx.attempt, ctx.msg_id, ctx.flow_input, ctx.deadline) == (2, 107, {"flow": 1}, 12.5)
    assert not ctx.cancelled.is_set()
    assert ctx.logger.extra == {
        "pgflow_run_id": str(RUN),
        "pgflow_slug": "shop",
        "pgflow_step": "a",
        "pgflow_task_index": 7,
        "pgflow_attempt": 2,
    }
    assert outcome == Outcome(task(7), OutcomeKind.COMPLETED, '{"out":[1]}')


def test_a_handlers_lines_carry_its_task_and_what_it_gives_them(caplog: pytest.LogCaptureFixture) -> None:
    def handler(given: Any, ctx: TaskContext) -> None:
        ctx.logger.warning("odd", extra={"customer": "ada", "pgflow_step": "mine"})
        ctx.logger.warning("plain")

    run(handler)
    odd, plain = (r.__dict__ for r in caplog.records)
    assert odd["customer"] == "ada"
    assert "customer" not in plain
    for record in (odd, plain):
        assert (record["pgflow_run_id"], record["pgflow_step"], record["pgflow_attempt"]) == (str(RUN), "a", 2)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("boom"), OutcomeKind.FAILED, "ValueError: boom\n"),
        (SystemExit(3), OutcomeKind.FAILED, "SystemExit: 3"),
        (KeyboardInterrupt(), OutcomeKind.FAILED, "KeyboardInterrupt"),
        (GeneratorExit(), OutcomeKind.FAILED, "GeneratorExit"),
        (PermanentError("never"), OutcomeKind.FAILED_FOR_GOOD, "never\n"),
        (MuteError(), OutcomeKind.FAILED, "MuteError"),
        (ValueError("nul \x00 \ud800"), OutcomeKind.FAILED, "nul \\x00 \\ud800"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_whatever_a_handler_raises_becomes_an_outcome(error: BaseException, kind: OutcomeKind, text: str) -> None:
    def fail(_input: Any, _ctx: Any) -> None:
        raise error

    outcome = run(fail)
    assert outcome.kind is kind
    assert text in outcome.error
    assert len(outcome.error.encode()) <= 10_000
    assert "in fail" in outcome.error or "MuteError" in text


def test_a_handler_that_snoozes_has_neither_failed_nor_an_output() -> None:
    def later(_input: Any, _ctx: Any) -> None:
        raise Snooze(60)

    definition = FlowDefinition("shop", (StepDefinition("a", later),))
    outcome, raised = execute(definition.steps[0], task(7), 12.5, threading.Event())
    assert (outcome.kind, outcome.error, outcome.error_type) == (OutcomeKind.SNOOZED, "", "")
    assert isinstance(raised, Snooze)


def test_output_that_is_no_json_fails_the_task_by_its_path() -> None:
    outcome = run(lambda _input, _ctx: {"a": {1}})
    assert (outcome.kind, outcome.error) == (
        OutcomeKind.FAILED,
        "the handler's output cannot be stored: output['a'] is a set, which is not JSON",
    )
