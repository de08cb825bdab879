"""What the starters work at, and how they are set; the same in this process and in others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pgflow_starter as pgflow
from tests.chaos.ledger import Key

TARGETS = ("chaos_quick", "chaos_quick", "chaos_slow", "chaos_flow")
"""The slugs that runs are sent to, as often as they occur."""

ATTEMPTS = 20
"""A killed process costs each of its tasks an attempt, and no task shall run out of them for that."""

WORK: dict[str, Callable[[Any], Any]] = {
    "split": lambda order: [order, order + 1, order + 2],
    "double": lambda item: int(item) * 2,
    "total": lambda deps: sum(deps["double"]),
    "chaos_quick": lambda message: message,
    "chaos_slow": lambda message: message,
}
"""What each step makes of what it is given, whoever runs it."""

OUTPUT = """
case flow_slug when 'chaos_flow' then jsonb_build_object('total', 6 * (input #>> '{}')::numeric + 6)
               else jsonb_build_object(flow_slug, input) end
"""
"""What a run comes to, by its row."""

SETTINGS: dict[str, Any] = {
    "backoff": pgflow.Backoff(base=0.1, maximum=2.0, jitter=0.2),
    "min_poll_interval": 0.2,
    "max_poll_interval": 1.0,
    "notify_fallback_interval": 5.0,
    "heartbeat_interval": 1.0,
    "recovery_interval": 1.0,
    "stale_threshold": 4.0,
    "phase_timeout": 5.0,
    "shutdown_timeout": 10.0,
    "pool_size": 5,
}


def modules(seen: Callable[[Key], object], seed: int) -> tuple[list[pgflow.Flow], list[pgflow.Job]]:
    """A flow with a map, a job that is done at once, and one that takes its time. Each tells `seen` that it begins."""
    flow = pgflow.Flow("chaos_flow", base_delay=1, max_attempts=ATTEMPTS)
    noise = random.Random(seed)

    def begins(ctx: pgflow.TaskContext) -> None:
        seen((ctx.run_id, ctx.step_slug, ctx.task_index))

    @flow.step()
    def split(order: Any, ctx: pgflow.TaskContext) -> list[int]:
        begins(ctx)
        return list(WORK["split"](order))

    @flow.map(array="split")
    def double(item: Any, ctx: pgflow.TaskContext) -> int:
        begins(ctx)
        return int(WORK["double"](item))

    @flow.step(depends_on=["double"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> int:
        begins(ctx)
        return int(WORK["total"](deps))

    @pgflow.job("chaos_quick", base_delay=1, max_attempts=ATTEMPTS)
    def quick(message: Any, ctx: pgflow.TaskContext) -> Any:
        begins(ctx)
        return WORK["chaos_quick"](message)

    @pgflow.job("chaos_slow", base_delay=1, max_attempts=ATTEMPTS)
    def slow(message: Any, ctx: pgflow.TaskContext) -> Any:
        begins(ctx)
        ctx.cancelled.wait(noise.uniform(0.02, 0.3))
        return WORK["chaos_slow"](message)

    return [flow], [quick, slow]
