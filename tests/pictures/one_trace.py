"""What a trace of a run over two processes with a retry has to be, as a backend tells of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pgflow_starter.telemetry import names
from tests.pictures.traced_program import INSTANCE

FLOW = "checkout"
CALLER, CALLED = "web", "place order"
"""Who starts the run, and in which span."""

DONE = (
    ("first", "lines", 1, "failed"),
    ("first", "lines", 2, "completed"),
    ("second", "price", 1, "completed"),
    ("second", "total", 1, "completed"),
)
"""By which process each step was done, in which attempt, and how that ended."""

SEND, PROCESS, RUN = (name.format(FLOW) for name in (names.SPAN_SEND, names.SPAN_PROCESS, names.SPAN_RUN))
EXPECTED = Counter({CALLED: 1, SEND: 1, PROCESS: len(DONE), RUN: 1})


def of_the_run(spans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the run, of all that there are."""
    return [span for span in spans if span["name"] in EXPECTED]


def fault_of(spans: Sequence[dict[str, Any]]) -> str | None:
    """What is wrong with the spans of the run as Phoenix's `/spans` tells them; None where nothing is."""
    ours = of_the_run(spans)
    traces = sorted({span["context"]["trace_id"] for span in ours})
    if len(traces) > 1:
        return f"the run is {len(traces)} traces, not one: {traces}"
    found = Counter(span["name"] for span in ours)
    if found != EXPECTED:
        return f"its spans are {dict(found)}, not {dict(EXPECTED)}"
    (send,) = [span for span in ours if span["name"] == SEND]
    below = Counter(span["name"] for span in ours if span["parent_id"] == send["context"]["span_id"])
    if below != {PROCESS: len(DONE), RUN: 1}:
        return f"below `{SEND}` are {dict(below)}, not all of `{PROCESS}` and `{RUN}`"
    done = tuple(_done(span) for span in sorted(ours, key=lambda s: str(s["start_time"])) if span["name"] == PROCESS)
    return None if done == DONE else f"its steps were done as {done}, not as {DONE}"


def failed_attempt(spans: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first attempt of the first step."""
    return next(span for span in of_the_run(spans) if span["name"] == PROCESS and _done(span) == DONE[0])


def _done(span: dict[str, Any]) -> tuple[Any, ...]:
    told = span["attributes"]
    return tuple(told.get(name) for name in (INSTANCE, names.STEP, names.TASK_ATTEMPT, names.TASK_OUTCOME))
