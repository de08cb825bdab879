"""What is run: a task that would take longer than anybody waits."""

from __future__ import annotations

import threading

import pgflow_starter as pgflow


@pgflow.job("sleep", timeout=100)
def sleep(given: object, ctx: pgflow.TaskContext) -> None:
    """Never looks whether anybody still waits for it."""
    print("sleep begun", flush=True)
    threading.Event().wait(90)
