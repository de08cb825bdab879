"""Modules to start: jobs that give back what they get."""

from __future__ import annotations

from typing import Any

import pgflow_starter as pgflow


def jobs(count: int) -> list[pgflow.Job]:
    """That many, `job_0` and so on."""
    return [pgflow.job(f"job_{i}")(echo) for i in range(count)]


def echo(message: Any, ctx: pgflow.TaskContext) -> Any:
    """The least that a handler can do."""
    return message
