"""Which of our threads are there, waiting for their end, and interrupting what one of them does."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from pgflow_starter.threads.interrupt_scope import InterruptScope


def ours() -> set[threading.Thread]:
    """The living threads that this package started: their names begin with `pgflow`."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("pgflow")}


def left_over(before: Collection[threading.Thread], timeout: float) -> list[str]:
    """The names of our threads that were not there before and have not ended after `timeout` seconds in all."""
    deadline = time.monotonic() + timeout
    new = [thread for thread in ours() if thread not in before]
    for thread in new:
        thread.join(max(0.0, deadline - time.monotonic()))
    return sorted(thread.name for thread in new if thread.is_alive())


def interrupt(scope: InterruptScope) -> None:
    """Interrupt what runs within the scope, from this thread."""
    interrupts = scope.begin_cancel()
    if interrupts is not None:
        interrupts()
