"""Declaring: `Flow`, its `step` and `map` decorators, and `job`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, Protocol, TypeVar, overload

from pgflow_starter.core.conditions import WHEN_EXHAUSTED, WHEN_UNMET, WhenExhausted, WhenUnmet
from pgflow_starter.core.context import TaskContext
from pgflow_starter.core.definition import (
    DEFAULT_BASE_DELAY,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_TIMEOUT,
    FLOW_OPTIONS,
    FlowDefinition,
    Handler,
    StepDefinition,
    StepKind,
    dependency_list,
    dependency_problems,
    flow_option_problems,
)
from pgflow_starter.core.generics import In, Message, Out, Output, Stored
from pgflow_starter.core.rules import option_problems, refuse, slug_problem, warn_of_slug
from pgflow_starter.core.state import ModuleType

H = TypeVar("H", bound=Handler)


class Flow:
    """A flow that its module declares step by step. `base_delay` and `timeout` are whole seconds.

    Raises ValueError naming every bad slug and option, TypeError for a slug that is no string. Warns (UserWarning) of a
    slug that the newest pgflow cores refuse; so do steps and jobs. Declare on one thread, as modules are imported; a
    starter reads the steps declared until its registry phase.
    """

    def __init__(
        self,
        slug: str,
        *,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        base_delay: int = DEFAULT_BASE_DELAY,
        timeout: int = DEFAULT_TIMEOUT,
        max_concurrency: int | None = None,
    ) -> None:
        self.slug = slug
        self.max_attempts = max_attempts
        self.base_delay = base_delay
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self._steps: dict[str, StepDefinition] = {}
        refuse([slug_problem("flow slug", slug) or "", *flow_option_problems(f"flow {slug!r}", self._options())])
        warn_of_slug("flow slug", slug)

    def __repr__(self) -> str:
        return f"Flow({self.slug!r}, steps={list(self._steps)})"

    def __pgflow_definition__(self) -> FlowDefinition:
        """The flow as declared so far. Raises ValueError when it has no steps."""
        return FlowDefinition(self.slug, tuple(self._steps.values()), **self._options(), kind=ModuleType.FLOW)

    def _options(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in FLOW_OPTIONS}

    def step(
        self,
        slug: str | None = None,
        *,
        depends_on: Iterable[str] = (),
        max_attempts: int | None = None,
        base_delay: int | None = None,
        timeout: int | None = None,
        start_delay: int | None = None,
        if_: Any = None,
        if_not: Any = None,
        when_unmet: WhenUnmet = WHEN_UNMET[0],
        when_exhausted: WhenExhausted = WHEN_EXHAUSTED[0],
    ) -> Callable[[H], H]:
        """Declare a step that runs once its dependencies are done; the decorated function stays as it is.

        `slug` defaults to the function's name; options override the flow's, in whole seconds. The step is for inputs
        that contain the object `if_` and do not contain `if_not`, as PostgreSQL's `@>` has it: the flow's input, or
        `{dependency: output}` where it has dependencies. `when_unmet` says what becomes of it for other inputs,
        `when_exhausted` when its last attempt failed: "skip" has dependents go on without its key in their input,
        "skip-cascade" skips them, too, "fail" fails the run. Raises ValueError for an unknown dependency, a slug taken
        by another step, or a bad option or condition, naming all of them.
        """
        return self._declare(
            slug,
            StepKind.SINGLE,
            depends_on,
            max_attempts=max_attempts,
            base_delay=base_delay,
            timeout=timeout,
            start_delay=start_delay,
            if_=if_,
            if_not=if_not,
            when_unmet=when_unmet,
            when_exhausted=when_exhausted,
        )

    def map(
        self,
        array: str | None = None,
        *,
        slug: str | None = None,
        max_attempts: int | None = None,
        base_delay: int | None = None,
        timeout: int | None = None,
        start_delay: int | None = None,
        if_: Any = None,
        if_not: Any = None,
        when_unmet: WhenUnmet = WHEN_UNMET[0],
        when_exhausted: WhenExhausted = WHEN_EXHAUSTED[0],
    ) -> Callable[[H], H]:
        """Declare a step that runs once for each element of the array that step `array` returns.

        Without `array` it goes over the flow's input, which then must be an array. Over a step that was skipped it is
        completed with no element. Otherwise as `step`; conditions are of the whole array, `{array: output}`.
        """
        if array is not None and not isinstance(array, str):
            raise TypeError(
                f"flow {self.slug!r}: array must be a step slug, got {array!r} (declare with parentheses: @flow.map())"
            )
        return self._declare(
            slug,
            StepKind.MAP,
            () if array is None else (array,),
            max_attempts=max_attempts,
            base_delay=base_delay,
            timeout=timeout,
            start_delay=start_delay,
            if_=if_,
            if_not=if_not,
            when_unmet=when_unmet,
            when_exhausted=when_exhausted,
        )

    def _declare(self, slug: str | None, kind: StepKind, depends_on: Iterable[str], **options: Any) -> Callable[[H], H]:
        if slug is not None and not isinstance(slug, str):
            slug_problem("step slug", slug)

        def declare(handler: H) -> H:
            name: Any = getattr(handler, "__name__", None) if slug is None else slug
            step = StepDefinition(name, handler, kind, dependency_list(f"step {name!r}", depends_on), **options)
            problems = list(step.problems())
            if step.slug in self._steps:
                problems.append(f"flow {self.slug!r}: step {step.slug!r} is declared twice")
            refuse([*problems, *dependency_problems(f"flow {self.slug!r}", step, self._steps)])
            warn_of_slug("step slug", step.slug)
            self._steps[step.slug] = step
            return handler

        return declare


class Job(Generic[In, Out]):
    """A flow of one step. Calling it calls the handler, in this thread and without a database.

    `Job[In, Out]` takes messages of type `In`, and its handler returns `Out`, or, being asynchronous, a coroutine of
    that: which of the two the type does not say, so that what a call gives is `Any` to a type checker.
    """

    def __init__(self, definition: FlowDefinition[In, Out]) -> None:
        self._definition: FlowDefinition[In, Any] = definition
        self.slug = definition.slug
        self.handler: Callable[[In, TaskContext], Any] = definition.steps[0].handler

    def __repr__(self) -> str:
        return f"Job({self.slug!r})"

    def __call__(self, message: In, ctx: TaskContext) -> Any:  # type: ignore[misc] # see In
        return self.handler(message, ctx)

    @overload
    def __pgflow_definition__(self: Job[In, Stored]) -> FlowDefinition[In, Stored]: ...

    @overload
    def __pgflow_definition__(self) -> FlowDefinition[In, Any]: ...

    def __pgflow_definition__(self) -> FlowDefinition[In, Any]:
        """The job as a flow definition."""
        return self._definition


class JobDecorator(Protocol):
    """What `job` returns: makes a job of a handler, plain or asynchronous."""

    @overload
    def __call__(
        self, handler: Callable[[Message, TaskContext], Coroutine[Any, Any, Output]], /
    ) -> Job[Message, Output]: ...

    @overload
    def __call__(self, handler: Callable[[Message, TaskContext], Output], /) -> Job[Message, Output]: ...


def job(
    slug: str,
    *,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    base_delay: int = DEFAULT_BASE_DELAY,
    timeout: int = DEFAULT_TIMEOUT,
    start_delay: int | None = None,
    max_concurrency: int | None = None,
    step_slug: str | None = None,
) -> JobDecorator:
    """Declare a background job: `handler(message, ctx)` runs once for each message enqueued.

    `base_delay`, `timeout` and `start_delay` are whole seconds. The one step has the job's slug unless `step_slug` says
    otherwise (for sharing a database with another runtime's job). Raises ValueError naming every bad slug and option.
    """
    options: dict[str, Any] = {
        "max_attempts": max_attempts,
        "base_delay": base_delay,
        "timeout": timeout,
        "max_concurrency": max_concurrency,
    }
    refuse(
        [
            slug_problem("job slug", slug) or "",
            "" if step_slug is None else slug_problem("step slug", step_slug) or "",
            *flow_option_problems(f"job {slug!r}", options),
            *option_problems(f"job {slug!r}", [("start_delay", start_delay)]),
        ]
    )
    warn_of_slug("job slug", slug)
    if step_slug is not None:
        warn_of_slug("step slug", step_slug)

    def declare(handler: Handler) -> Any:
        step = StepDefinition(slug if step_slug is None else step_slug, handler, start_delay=start_delay)
        return Job(FlowDefinition(slug, (step,), **options, kind=ModuleType.JOB))

    return declare
