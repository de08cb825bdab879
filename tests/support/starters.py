"""Starters for tests: quick to retry, stopped at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pgflow_starter as pgflow
from pgflow_starter.config import settings_from
from pgflow_starter.core.modules import module_specs
from pgflow_starter.starter.per_process import Runtimes
from pgflow_starter.starter.runtime import Runtime
from tests.support.waiting import eventually

QUICK: dict[str, Any] = {
    "backoff": pgflow.Backoff(base=0.05, maximum=0.2, jitter=0.2),
    "min_poll_interval": 0.05,
    "max_poll_interval": 0.2,
    "notify_throttle": 0.05,
    "shutdown_timeout": 5.0,
}

STRATEGIES = ("polling", "notify")


@contextmanager
def running(conninfo: str, **arguments: Any) -> Iterator[pgflow.Starter]:
    """A starter with quick settings for the duration of the block."""
    starter = pgflow.start(conninfo, **{**QUICK, **arguments})
    try:
        yield starter
    finally:
        starter.stop()


@contextmanager
def opened(
    conninfo: str, *, flows: Iterable[Any] = (), jobs: Iterable[Any] = (), **arguments: Any
) -> Iterator[tuple[pgflow.Starter, Runtime]]:
    """As `running`, with the runtime behind the handle: for tests that do something to one of its parts."""
    specs = module_specs(flows, jobs)
    runtime = Runtime(conninfo, specs, settings_from(conninfo, {**QUICK, **arguments}))
    starter = pgflow.Starter(Runtimes(lambda: runtime, lazy=False), [spec.name for spec in specs])
    try:
        yield starter, runtime
    finally:
        starter.stop()


def echo_job(slug: str = "echo", **options: Any) -> pgflow.Job:
    """A job that returns its message."""

    @pgflow.job(slug, **options)
    def echo(message: Any, ctx: pgflow.TaskContext) -> Any:
        return message

    return echo


def await_state(
    starter: pgflow.Starter, module: Any, wanted: Callable[[pgflow.ModuleState], object], timeout: float = 30.0
) -> pgflow.ModuleState:
    """The module's state once it is as wanted."""
    found = eventually(
        lambda: [s for s in [state(starter, module)] if wanted(s)], timeout, f"the state wanted of {module!r}"
    )
    return found[0]


def state(starter: pgflow.Starter, module: Any) -> pgflow.ModuleState:
    """The module's state, which must be known."""
    found = starter.module_status(module)
    assert found is not None
    return found
