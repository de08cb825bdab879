"""What is run: tasks that would take longer than anybody waits."""

from __future__ import annotations

import threading

import pgflow_starter as pgflow


@pgflow.job("sleep", timeout=100)
def sleep(given: object, ctx: pgflow.TaskContext) -> None:
    """Never looks whether anybody still waits for it."""
    print("sleep begun", flush=True)
    threading.Event().wait(90)


SPINNING = 40

_all_there = threading.Barrier(SPINNING)


@pgflow.job("spin", timeout=100, max_concurrency=SPINNING)
def spin(given: object, ctx: pgflow.TaskContext) -> None:
    """Computes together with the others, and never looks either."""
    if _all_there.wait() == 0:
        print("spin begun", flush=True)
    while True:
        pass
