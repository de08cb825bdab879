"""`FlowDefinition`: what a flow module declares, checked once, in its constructor."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic

from pgflow_starter.core.conditions import (
    CONDITIONS,
    PATTERNS,
    WHEN_EXHAUSTED,
    WHEN_UNMET,
    WhenExhausted,
    WhenUnmet,
    condition_problems,
    pattern_of,
)
from pgflow_starter.core.context import TaskContext
from pgflow_starter.core.generics import Input, Out
from pgflow_starter.core.handlers import handler_problem
from pgflow_starter.core.payloads.payload import Payload, payload_of
from pgflow_starter.core.rules import option_problems, refuse, slug_problem
from pgflow_starter.core.state import ModuleType

Handler = Callable[[Any, TaskContext], Any]

DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_BASE_DELAY = 5
DEFAULT_TIMEOUT = 60
FLOW_OPTIONS = ("max_attempts", "base_delay", "timeout", "max_concurrency")


class StepKind(StrEnum):
    """pgflow's `step_type`: one task, or one task per element of an array."""

    SINGLE = "single"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """One step of a flow. Options that are None fall back to the flow's; times are whole seconds.

    `handler(input, ctx)` gets the flow's input (root step), `{dependency: output}` (dependent step) or one element of
    the array (map step), and a `TaskContext`; what it returns, or its coroutine does, must be JSON. `if_` and `if_not`
    are JSON objects, kept as text: the step is for inputs (a map step's: the flow's input, or `{array: output}`) that
    contain the one and not the other. Checked by `FlowDefinition`.

    `payload` is what the input is decoded to before the call, None for plain JSON. It is made of the handler's
    annotation, unless it is given, as `dataclasses.replace` does. Raises MissingExtraError where the library for that
    is not installed, ValueError for an annotation that cannot be resolved, or decoded to.
    """

    slug: str
    handler: Handler = field(compare=False)
    kind: StepKind = StepKind.SINGLE
    depends_on: tuple[str, ...] = ()
    max_attempts: int | None = None
    base_delay: int | None = None
    timeout: int | None = None
    start_delay: int | None = None
    if_: Any = None
    if_not: Any = None
    when_unmet: WhenUnmet = WHEN_UNMET[0]
    when_exhausted: WhenExhausted = WHEN_EXHAUSTED[0]
    payload: Payload | None = field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.payload is None:
            object.__setattr__(self, "payload", payload_of(self.handler, f"step {self.slug!r}"))
        # What is no list of slugs, or no JSON object, stays as it is, for FlowDefinition to refuse.
        if isinstance(self.depends_on, Iterable) and not isinstance(self.depends_on, str):
            object.__setattr__(self, "depends_on", tuple(self.depends_on))
        for name in PATTERNS:
            if (pattern := getattr(self, name)) is not None:
                with suppress(ValueError):
                    object.__setattr__(self, name, pattern_of(pattern, name))

    def problems(self) -> Iterator[str]:
        """What is wrong with this step alone, a line each. Raises TypeError for slugs that are no strings."""
        who = f"step {self.slug!r}"
        yield slug_problem("step slug", self.slug) or ""
        if problem := handler_problem(self.handler):
            yield f"{who}: handler {problem}"
        if self.kind not in tuple(StepKind):
            yield f"{who}: kind must be 'single' or 'map', got {self.kind!r}"
        depends_on = dependency_list(who, self.depends_on)
        if self.kind == StepKind.MAP and len(depends_on) > 1:
            yield f"{who}: a map step takes one array, got {len(depends_on)} dependencies"
        yield from option_problems(
            who, ((n, getattr(self, n)) for n in ("max_attempts", "base_delay", "timeout", "start_delay"))
        )
        yield from condition_problems(who, self.if_, self.if_not, self.when_unmet, self.when_exhausted)


@dataclass(frozen=True, slots=True)
class FlowDefinition(Generic[Input, Out]):
    """A flow's slug, options and steps; `steps` is kept in topological order, as pgflow's `add_step` needs it.

    To a type checker `FlowDefinition[Input, Out]` is one of runs with such an input and result; without, of any.
    Times are whole seconds; `kind` None is that of the list in which the module is given. Raises ValueError naming
    everything that is wrong (slugs, options, an unknown or doubled dependency, a duplicate step, a cycle, no steps),
    TypeError for a slug that is no string. Immutable.
    """

    slug: str
    steps: tuple[StepDefinition, ...]
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    base_delay: int = DEFAULT_BASE_DELAY
    timeout: int = DEFAULT_TIMEOUT
    max_concurrency: int | None = None
    kind: ModuleType | None = None

    def __post_init__(self) -> None:
        steps = tuple(self.steps)
        who = f"flow {self.slug!r}"
        refuse(
            [
                slug_problem("flow slug", self.slug) or "",
                *flow_option_problems(who, {n: getattr(self, n) for n in FLOW_OPTIONS}),
                *_graph_problems(who, steps),
            ]
        )
        object.__setattr__(self, "steps", _topological(who, steps))
        object.__setattr__(self, "kind", None if self.kind is None else ModuleType(self.kind))

    def step(self, slug: str) -> StepDefinition | None:
        """The step of that slug, None where there is none."""
        return next((s for s in self.steps if s.slug == slug), None)

    def timeout_of(self, step: StepDefinition) -> int:
        """Seconds that a task of the step may run."""
        return self.timeout if step.timeout is None else step.timeout

    def retries_of(self, step: StepDefinition) -> tuple[int, int]:
        """How many attempts a task of the step has, and its base delay in seconds."""
        attempts = self.max_attempts if step.max_attempts is None else step.max_attempts
        return attempts, self.base_delay if step.base_delay is None else step.base_delay


def conditions_of(step: StepDefinition) -> dict[str, Any]:
    """The step's conditions that were declared, by the names of their fields: a core must have conditions for them."""
    declared = {name: getattr(step, name) for name in CONDITIONS}
    return {name: value for name, value in declared.items() if value != CONDITIONS[name]}


def flow_option_problems(who: str, options: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with the flow-wide options, of which only `max_concurrency` may be None."""
    for name in FLOW_OPTIONS:
        if options[name] is None and name != "max_concurrency":
            yield f"{who}: {name} must be an int, got None"
    yield from option_problems(who, options.items())


def dependency_list(who: str, depends_on: object) -> tuple[str, ...]:
    """The dependencies as a tuple. Raises TypeError for a lone string or anything that is no list of strings."""
    if isinstance(depends_on, str) or not isinstance(depends_on, Iterable):
        raise TypeError(f"{who}: depends_on must be a list of step slugs, got {depends_on!r}")
    names = tuple(depends_on)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{who}: depends_on must hold step slugs, got {name!r}")
    return names


def _graph_problems(who: str, steps: tuple[StepDefinition, ...]) -> Iterator[str]:
    if not steps:
        yield f"{who} has no steps"
    known: set[str] = set()
    for step in steps:
        if not isinstance(step, StepDefinition):
            raise TypeError(f"{who}: steps must hold StepDefinition objects, got {step!r}")
        yield from step.problems()
        if step.slug in known:
            yield f"{who}: step {step.slug!r} is declared twice"
        known.add(step.slug)
    for step in steps:
        yield from dependency_problems(who, step, known)


def dependency_problems(who: str, step: StepDefinition, known: Container[str]) -> Iterator[str]:
    """What is wrong with what the step depends on, of the `known` steps."""
    for name in step.depends_on:
        if name not in known:
            yield f"{who}: step {step.slug!r} depends on unknown step {name!r}"
    if len(set(step.depends_on)) < len(step.depends_on):
        yield f"{who}: step {step.slug!r} names a dependency twice"


def _topological(who: str, steps: tuple[StepDefinition, ...]) -> tuple[StepDefinition, ...]:
    """The steps in the order declared, those moved back that came before a dependency.

    Raises ValueError naming the steps of a cycle.
    """
    ordered: list[StepDefinition] = []
    placed: set[str] = set()
    waiting = list(steps)
    while waiting:
        later: list[StepDefinition] = []
        for step in waiting:
            if placed.issuperset(step.depends_on):
                ordered.append(step)
                placed.add(step.slug)
            else:
                later.append(step)
        if len(later) == len(waiting):
            raise ValueError(f"{who}: the dependencies of {', '.join(map(repr, _cycle(later)))} form a cycle")
        waiting = later
    return tuple(ordered)


def _cycle(waiting: list[StepDefinition]) -> list[str]:
    """The slugs of one cycle among steps of which each depends on another of them."""
    blocked = {step.slug: step for step in waiting}
    path: list[str] = []
    slug = waiting[0].slug
    while slug not in path:
        path.append(slug)
        slug = next(name for name in blocked[slug].depends_on if name in blocked)
    return path[path.index(slug) :]
