"""Middleware around a handler's call: its order, and what becomes of what it and the handler raise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter import FlowDefinition, PermanentError, Snooze, StepDefinition, TaskContext
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.testing import run_flow
from pgflow_starter.worker.execution import execute
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.worker.outbox_rig import task


def run(handler: Callable[[Any, Any], Any], *middleware: Any) -> Outcome:
    definition = FlowDefinition("shop", (StepDefinition("a", handler),))
    return execute(definition.steps[0], task(7), 12.5, threading.Event(), middleware)[0]


def answering(given: Any, ctx: Any) -> Any:
    return "done"


def refusing(given: Any, ctx: Any) -> Any:
    raise ValueError("the handler's")


class Around:
    """A middleware that writes down what it sees; it raises what it is told to."""

    def __init__(self, name: str, seen: list[str], *, entering: Any = None, leaving: Any = None):
        self._name, self._seen, self._entering, self._leaving = name, seen, entering, leaving

    @contextmanager
    def __call__(self, ctx: TaskContext) -> Iterator[None]:
        self._seen.append(f"{self._name} {ctx.step_slug}")
        if self._entering is not None:
            raise self._entering
        try:
            yield
        except BaseException as error:
            self._seen.append(f"{self._name} saw {type(error).__name__}")
            if self._leaving is not None:
                raise self._leaving from error
            raise
        else:
            self._seen.append(f"{self._name} after")
            if self._leaving is not None:
                raise self._leaving


def test_they_are_entered_in_their_order_and_left_in_the_other() -> None:
    seen = list[str]()

    def handler(given: Any, ctx: Any) -> str:
        seen.append("handler")
        return "done"

    outcome = run(handler, Around("outer", seen), Around("inner", seen))
    assert seen == ["outer a", "inner a", "handler", "inner after", "outer after"]
    assert (outcome.kind, outcome.output_json) == (OutcomeKind.COMPLETED, '"done"')


def test_a_handler_s_exception_goes_through_them_as_it_is() -> None:
    seen = list[str]()
    outcome = run(refusing, Around("outer", seen), Around("inner", seen))
    assert seen[2:] == ["inner saw ValueError", "outer saw ValueError"]
    assert outcome == run(refusing)  # the text that is stored has no frame of theirs


@pytest.mark.parametrize("where", ["entering", "leaving"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionError("away"), OutcomeKind.FAILED),
        (PermanentError("never"), OutcomeKind.FAILED_FOR_GOOD),
        (SystemExit(1), OutcomeKind.FAILED),
        (Snooze(5), OutcomeKind.SNOOZED),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else v,
)
def test_what_a_middleware_raises_counts_as_the_handler_s_own(
    where: str, error: BaseException, kind: OutcomeKind
) -> None:
    seen, called = list[str](), list[Any]()
    options: dict[str, Any] = {where: error}
    outcome = run(lambda given, ctx: called.append(given), Around("outer", seen), Around("inner", seen, **options))
    assert outcome.kind is kind
    assert seen[-1] == f"outer saw {type(error).__name__}"
    assert len(called) == (where == "leaving")
    assert (str(error) in outcome.error) == (kind is not OutcomeKind.SNOOZED)


def test_a_factory_that_raises_fails_the_attempt_within_those_that_are_entered() -> None:
    def broken(ctx: TaskContext) -> Any:
        raise LookupError("no tenant")

    seen = list[str]()
    outcome = run(answering, Around("outer", seen), broken)
    assert (outcome.kind, outcome.error_type) == (OutcomeKind.FAILED, "LookupError")
    assert seen[-1] == "outer saw LookupError"


def test_one_that_makes_no_context_manager_is_named() -> None:
    outcome = run(answering, lambda ctx: iter(()))
    assert outcome.error_type == "TypeError"
    assert "<lambda> made a tuple_iterator, which is no context manager" in outcome.error


def test_an_exception_that_a_middleware_swallows_completes_the_task_with_null() -> None:
    seen = list[str]()
    outcome = run(refusing, Around("outer", seen), lambda ctx: suppress(ValueError))
    assert (outcome.kind, outcome.output_json) == (OutcomeKind.COMPLETED, "null")
    assert seen[-1] == "outer after"


def test_what_swallows_also_swallows_what_those_within_it_raise_before_the_handler() -> None:
    called = list[Any]()
    outcome = run(
        lambda given, ctx: called.append(given),
        lambda ctx: suppress(ValueError),
        Around("inner", [], entering=ValueError("too early")),
    )
    assert (outcome.kind, outcome.output_json, called) == (OutcomeKind.COMPLETED, "null", [])


def test_a_snooze_is_seen_and_one_that_is_replaced_is_a_failure() -> None:
    def later(given: Any, ctx: Any) -> None:
        raise Snooze(5)

    seen = list[str]()
    assert run(later, Around("outer", seen)).kind is OutcomeKind.SNOOZED
    assert seen == ["outer a", "outer saw Snooze"]
    replaced = run(later, Around("outer", seen, leaving=RuntimeError("not in my watch")))
    assert (replaced.kind, replaced.error_type) == (OutcomeKind.FAILED, "RuntimeError")


def test_an_output_that_is_no_json_fails_within_them_with_the_usual_words() -> None:
    seen = list[str]()
    outcome = run(lambda given, ctx: {1}, Around("outer", seen))
    assert seen == ["outer a", "outer saw UnstorableOutputError"]
    assert outcome == run(lambda given, ctx: {1})
    assert (outcome.error_type, outcome.error) == (
        "ValueError",
        "the handler's output cannot be stored: output is a set, which is not JSON",
    )


def test_run_flow_enters_them_and_hands_on_what_they_raise() -> None:
    job, seen = pgflow.job("unsteady", max_attempts=2)(refusing), list[str]()
    run = run_flow(job, middleware=[Around("mine", seen, leaving=KeyError("theirs"))])
    assert seen == ["mine unsteady", "mine saw ValueError"] * 2
    assert isinstance(run.exception, KeyError)
    with pytest.raises(ValueError, match="middleware must be a list"):
        run_flow(job, middleware=Around("mine", seen))  # type: ignore[call-overload]


def test_a_starter_s_tasks_run_within_them_and_within_their_timeout(database: str) -> None:
    seen, hanging, release = list[tuple[str, int]](), threading.Event(), threading.Event()

    @contextmanager
    def around(ctx: TaskContext) -> Iterator[None]:
        seen.append((ctx.flow_slug, ctx.attempt))
        if ctx.flow_input == "hang":
            hanging.set()
            release.wait(60)
            seen.append(("cancelled", ctx.cancelled.is_set()))
        yield

    job = pgflow.job("wrapped", max_attempts=1, timeout=1)(answering)
    try:
        with running(database, jobs=[job], middleware=[around]) as starter:
            starter.await_ready(30)
            assert starter.client.enqueue(job, 1).wait(30).result == "done"
            hung = starter.client.enqueue(job, "hang")
            assert hanging.wait(30)
            # Another task runs meanwhile, and this one is given up though its handler never began.
            assert starter.client.enqueue(job, 2).wait(30).result == "done"
            assert "timeout of 1 s" in str(hung.wait(30).error)
            release.set()
            eventually(lambda: ("cancelled", True) in seen)
    finally:
        release.set()
    assert seen.count(("wrapped", 1)) == 3
