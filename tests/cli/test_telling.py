"""What a person is shown of module states: sentences, changes, and the live table."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rich.console import Console

from pgflow_starter.cli.changes import Changes
from pgflow_starter.cli.module_table import view_on
from pgflow_starter.cli.telling import module_line, module_lines, summary
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass, ModuleError, ModuleState, ModuleStatus, ModuleType, StarterStatus

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ERROR = ModuleError(ErrorClass.TRANSIENT, Phase.NOTIFY_DB, "the queue is [locked]", "55P03", NOW)
FRESH = ModuleState("order", None, ModuleType.FLOW, ModuleStatus.PENDING, 0, None, None, None, NOW)
TRYING = replace(FRESH, attempts=1, phase=Phase.REGISTRY)
RETRYING = replace(
    FRESH, status=ModuleStatus.RETRYING, attempts=1, last_error=ERROR, next_attempt_at=NOW + timedelta(seconds=1.5)
)
SUCCEEDED = replace(FRESH, status=ModuleStatus.SUCCEEDED, attempts=2, slug="order")
FAILED = replace(RETRYING, status=ModuleStatus.FAILED_PERMANENT, next_attempt_at=None)


class StandingClock:
    """A clock that stands at NOW."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 7.0


def status(*states: ModuleState) -> StarterStatus:
    return StarterStatus(ready=False, healthy=False, started_at=NOW, ready_at=None, modules=states)


def test_a_state_is_one_sentence() -> None:
    assert module_line(RETRYING, NOW) == (
        "order (flow): retrying, attempt 1 failed in phase notify_db: the queue is [locked] [55P03],"
        " next attempt in 1.5 s"
    )
    assert module_line(SUCCEEDED, NOW) == "order (flow): succeeded, attempt 2"


def test_an_attempt_that_is_due_already_is_not_told_as_past() -> None:
    assert module_line(RETRYING, NOW + timedelta(seconds=9)).endswith("next attempt in 0.0 s")


def test_a_change_is_another_status_or_another_failure_and_no_later_one_of_the_same() -> None:
    changes = Changes()

    def news(*states: ModuleState) -> list[str]:
        return changes.of(module_lines(status(*states), NOW))

    later = replace(RETRYING, last_error=replace(ERROR, at=NOW + timedelta(seconds=1)))
    assert news(FRESH) == []
    assert news(TRYING) == []
    assert news(RETRYING) == [module_line(RETRYING, NOW)]
    assert news(replace(RETRYING, attempts=2, phase=Phase.WORKER)) == []
    assert news(later) == []
    assert news(SUCCEEDED) == [module_line(SUCCEEDED, NOW)]
    assert news(SUCCEEDED) == []


def test_modules_of_the_same_name_have_changes_of_their_own() -> None:
    changes, both = Changes(), status(SUCCEEDED, FAILED)
    assert changes.of(module_lines(both, NOW)) == [module_line(SUCCEEDED, NOW), module_line(FAILED, NOW)]
    assert changes.of(module_lines(both, NOW)) == []


def test_the_summary_counts_both_ends() -> None:
    assert summary(status(SUCCEEDED, FAILED)) == "ready: 1 of 2 modules succeeded, 1 failed permanently"
    assert summary(status(SUCCEEDED)) == "ready: 1 of 1 modules succeeded"


def test_a_terminal_gets_a_table_with_everything_of_a_module() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, markup=False, _environ={"TERM": "xterm"})
    with view_on(console, StandingClock()) as view:
        view.say("a line [beside] it")
        view.show(status(RETRYING))
    shown = screen.getvalue()
    for words in ("a line [beside] it", "order", "retrying", "in 1.5 s", "notify_db: the queue is [locked] [55P03]"):
        assert words in shown


def test_anything_else_gets_a_line_for_each_change() -> None:
    screen = io.StringIO()
    with view_on(Console(file=screen, width=40), StandingClock()) as view:
        view.show(status(RETRYING))
        view.show(status(RETRYING))
        view.show(status(SUCCEEDED))
    assert screen.getvalue().splitlines() == [f"  0.00 s  {module_line(s, NOW)}" for s in (RETRYING, SUCCEEDED)]
