"""Random flows with conditions, of which some steps fail; and what becomes of one, by `run_flow` and by a starter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import pgflow_starter as pgflow
from pgflow_starter.testing import run_flow
from tests.support.starters import running

VALUES: list[Any] = [[], [1], [1, 2], [2, [1]], {"a": 1}, {"a": [1, 2], "b": None}, 1, True, None, "x"]
INPUTS: list[Any] = [{"a": 1}, {"a": [1, 2], "b": None}, {"b": [2, [1]], "a": True}]
PATTERNS: list[Any] = [*VALUES, [1.0], [], [], {"a": [1]}, {}, [[]], {"b": None}]


class Seen(NamedTuple):
    """How a run ended; each step with its status, why it was skipped, and its output."""

    status: str
    output: Any
    error: str | None
    steps: Sequence[tuple[str, str, str | None, Any]]


class Drawn:
    """The flow of a seed, and the input that it is run with."""

    def __init__(self, seed: int) -> None:
        self.slug = f"drawn_{seed}"
        self.flow = pgflow.Flow(self.slug, max_attempts=2, base_delay=0)
        self._seed = seed
        self._draw = draw = random.Random(seed)
        slugs: list[str] = []
        root_maps = draw.random() < 0.5
        self.input: Any = draw.choice(VALUES[:4]) if root_maps else draw.choice(INPUTS)
        for number in range(draw.randrange(2, 9)):
            slug = f"{draw.choice('abcz')}{number}"
            above = draw.sample(slugs, min(len(slugs), draw.choice([0, 1, 1, 2, 3])))
            if draw.random() < 0.35 and (above or root_maps):
                self.flow.map(*above[:1], slug=slug, **self._conditions(above[:1]))(self._work)
            else:
                self.flow.step(slug, depends_on=above, **self._conditions(above))(self._work)
            slugs.append(slug)

    def _conditions(self, above: list[str]) -> dict[str, Any]:
        draw = self._draw
        drawn: dict[str, Any] = {name: self._pattern(above) for name in ("if_", "if_not") if draw.random() < 0.3}
        if drawn:
            drawn["when_unmet"] = draw.choice(["skip", "skip", "skip-cascade", "skip-cascade", "fail"])
        if draw.random() < 0.5:
            drawn["when_exhausted"] = draw.choice(["fail", "skip", "skip", "skip-cascade"])
        return drawn

    def _pattern(self, above: list[str]) -> Any:
        return (
            {self._draw.choice(above or ["a", "b"]): self._draw.choice(PATTERNS)} if self._draw.random() < 0.9 else {}
        )

    def _work(self, given: Any, ctx: pgflow.TaskContext) -> Any:
        draw = random.Random(f"{self._seed} {ctx.step_slug} {ctx.task_index} {ctx.attempt}")
        if draw.random() < 0.4:
            failure = pgflow.PermanentError if draw.random() < 0.2 else RuntimeError
            raise failure(f"{ctx.step_slug} was given {given}")
        return draw.choice(VALUES[:4] if draw.random() < 0.8 else VALUES)

    def without_database(self) -> Seen:
        run = run_flow(self.flow, self.input)
        steps = [(slug, step.status, step.reason, step.output) for slug, step in run.steps.items()]
        return Seen(run.status, run.output, run.error, steps)


def on_the_core(database: str, flows: list[Drawn]) -> list[Seen]:
    """What becomes of them by a starter, one task of a flow at a time."""
    with running(database, flows=[drawn.flow for drawn in flows], max_concurrency=1) as starter:
        starter.await_ready(60)
        runs = starter.client
        ended = [run.wait(60) for run in [runs.start_flow(drawn.flow, drawn.input) for drawn in flows]]
        steps = [[(s.slug, s.status, s.reason, s.output) for s in run.steps()] for run in ended]
    return [Seen(run.status, run.output, run.error, told) for run, told in zip(ended, steps, strict=True)]
