"""`FlowDefinition`: what a flow module declares, checked once, in its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pgflow_starter.core.rules import option_problems, refuse, slug_problem
from pgflow_starter.core.state import ModuleType

Handler = Callable[[Any, Any], Any]

DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_BASE_DELAY = 5
DEFAULT_TIMEOUT = 60


class StepKind(StrEnum):
    """pgflow's `step_type`: one task, or one task per element of an array."""

    SINGLE = "single"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """One step of a flow. Options that are None fall back to the flow's; times are whole seconds.

    `handler(input, ctx)` gets the flow's input (root step), `{dependency: output}` (dependent step) or one element of
    the array (map step), and a `TaskContext`; what it returns must be JSON. Checked by `FlowDefinition`.
    """

    slug: str
    handler: Handler = field(compare=False)
    kind: StepKind = StepKind.SINGLE
    depends_on: tuple[str, ...] = ()
    max_attempts: int | None = None
    base_delay: int | None = None
    timeout: int | None = None
    start_delay: int | None = None

    def problems(self) -> Iterator[str]:
        """What is wrong with this step alone, a line each. Raises TypeError for a slug that is no string."""
        who = f"step {self.slug!r}"
        yield slug_problem("step slug", self.slug) or ""
        if not callable(self.handler):
            yield f"{who}: handler must be a function of (input, ctx), got {self.handler!r}"
        elif inspect.iscoroutinefunction(self.handler):
            yield f"{who}: handler is a coroutine function; handlers run on threads, declare it with plain def"
        if self.kind not in tuple(StepKind):
            yield f"{who}: kind must be 'single' or 'map', got {self.kind!r}"
        if self.kind == StepKind.MAP and len(self.depends_on) > 1:
            yield f"{who}: a map step takes one array, got {len(self.depends_on)} dependencies"
        yield from option_problems(
            who, ((n, getattr(self, n)) for n in ("max_attempts", "base_delay", "timeout", "start_delay"))
        )


@dataclass(frozen=True, slots=True)
class FlowDefinition:
    """A flow's slug, options and steps; `steps` is kept in topological order, as pgflow's `add_step` needs it.

    Times are whole seconds. Raises ValueError naming everything that is wrong (slugs, options, an unknown or doubled
    dependency, a duplicate step, a cycle, no steps), TypeError for a slug that is no string. Immutable.
    """

    slug: str
    steps: tuple[StepDefinition, ...]
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    base_delay: int = DEFAULT_BASE_DELAY
    timeout: int = DEFAULT_TIMEOUT
    max_concurrency: int | None = None
    kind: ModuleType = ModuleType.FLOW

    def __post_init__(self) -> None:
        steps = tuple(self.steps)
        who = f"flow {self.slug!r}"
        refuse(
            [slug_problem("flow slug", self.slug) or "", *flow_option_problems(who, self), *_graph_problems(who, steps)]
        )
        object.__setattr__(self, "steps", _topological(who, steps))
        object.__setattr__(self, "kind", ModuleType(self.kind))

    def step(self, slug: str) -> StepDefinition | None:
        """The step of that slug, None where there is none."""
        return next((s for s in self.steps if s.slug == slug), None)

    def timeout_of(self, step: StepDefinition) -> int:
        """Seconds that a task of the step may run."""
        return self.timeout if step.timeout is None else step.timeout


def flow_option_problems(who: str, flow: Any) -> Iterator[str]:
    """What is wrong with the flow-wide options of anything that has them as attributes."""
    for name in ("max_attempts", "base_delay", "timeout"):
        if getattr(flow, name) is None:
            yield f"{who}: {name} must be an int, got None"
    yield from option_problems(
        who, ((n, getattr(flow, n)) for n in ("max_attempts", "base_delay", "timeout", "max_concurrency"))
    )


def dependency_list(who: str, depends_on: object) -> tuple[str, ...]:
    """The dependencies as a tuple. Raises TypeError for a lone string or anything that is no list of strings."""
    if isinstance(depends_on, str) or not isinstance(depends_on, Iterable):
        msg = f"{who}: depends_on must be a list of step slugs, got {depends_on!r}"
        raise TypeError(msg)
    names = tuple(depends_on)
    for name in names:
        if not isinstance(name, str):
            msg = f"{who}: depends_on must hold step slugs, got {name!r}"
            raise TypeError(msg)
    return names


def _graph_problems(who: str, steps: tuple[StepDefinition, ...]) -> Iterator[str]:
    if not steps:
        yield f"{who} has no steps"
    known: set[str] = set()
    for step in steps:
        if not isinstance(step, StepDefinition):
            msg = f"{who}: steps must hold StepDefinition objects, got {step!r}"
            raise TypeError(msg)
        yield from step.problems()
        if step.slug in known:
            yield f"{who}: step {step.slug!r} is declared twice"
        known.add(step.slug)
    for step in steps:
        depends_on = dependency_list(f"step {step.slug!r}", step.depends_on)
        for name in depends_on:
            if name not in known:
                yield f"{who}: step {step.slug!r} depends on unknown step {name!r}"
        if len(set(depends_on)) < len(depends_on):
            yield f"{who}: step {step.slug!r} names a dependency twice"


def _topological(who: str, steps: tuple[StepDefinition, ...]) -> tuple[StepDefinition, ...]:
    """The steps with dependencies first, otherwise in the order declared. Raises ValueError naming a cycle's steps."""
    ordered: list[StepDefinition] = []
    placed: set[str] = set()
    waiting = list(steps)
    while waiting:
        ready = [s for s in waiting if placed.issuperset(s.depends_on)]
        if not ready:
            msg = f"{who}: the dependencies of {', '.join(repr(s.slug) for s in waiting)} form a cycle"
            raise ValueError(msg)
        ordered += ready
        placed.update(s.slug for s in ready)
        waiting = [s for s in waiting if s.slug not in placed]
    return tuple(ordered)
