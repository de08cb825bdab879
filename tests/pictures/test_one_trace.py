"""`fault_of` finds what is wrong with a trace that a backend tells of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.pictures.one_trace import CALLED, DONE, PROCESS, RUN, SEND, failed_attempt, fault_of

Spans = list[dict[str, Any]]


def span(number: int, name: str, parent: int | None, **attributes: Any) -> dict[str, Any]:
    """As Phoenix has it."""
    return {
        "name": name,
        "context": {"trace_id": "a", "span_id": f"{number}"},
        "parent_id": None if parent is None else f"{parent}",
        "start_time": f"2026-11-30T10:00:{number:02}",
        "attributes": attributes,
    }


def told() -> Spans:
    """Those of the run, and one that is not."""
    keys = ("service.instance.id", "pgflow.step", "pgflow.task.attempt", "pgflow.task.outcome")
    done = [span(n, PROCESS, 2, **dict(zip(keys, of, strict=True))) for n, of in enumerate(DONE, 4)]
    return [span(1, CALLED, None), span(2, SEND, 1), span(3, RUN, 2), *done, span(9, "receive checkout", None)]


def test_nothing_is_wrong_with_one_trace_over_two_processes_and_its_failed_attempt_is_found() -> None:
    spans = told()
    assert fault_of(spans[::-1]) is None
    assert failed_attempt(spans) == spans[3]


def other_trace(spans: Spans) -> None:
    spans[-2]["context"]["trace_id"] = "b"


def one_process(spans: Spans) -> None:
    spans[-2]["attributes"]["service.instance.id"] = "first"


def below_another(spans: Spans) -> None:
    spans[2]["parent_id"] = "1"


FAULTS: dict[str, tuple[Callable[[Spans], object], str]] = {
    "nothing has come": (list.clear, "its spans are {}"),
    "a step is in another trace": (other_trace, "the run is 2 traces"),
    "the run's end was not told": (lambda spans: spans.pop(2), "its spans are"),
    "the run's end was told twice": (lambda spans: spans.append(span(10, RUN, 2)), "its spans are"),
    "one process did all": (one_process, "its steps were done as"),
    "a span is below another": (below_another, "below `send checkout` are"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_said(fault: str) -> None:
    spans = told()
    change, words = FAULTS[fault]
    change(spans)
    assert words in (fault_of(spans) or "")
