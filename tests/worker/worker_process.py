"""A worker process for tests: writes down when each of its handlers begins and ends, on the machine's one clock."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import pgflow_starter as pgflow

QUICK: dict[str, Any] = {
    "min_poll_interval": 0.1,
    "max_poll_interval": 0.3,
    "heartbeat_interval": 0.3,
    "stale_threshold": 1.5,
    "recovery_interval": 0.3,
}


def main(conninfo: str, journal: str) -> None:
    """Work at the queue `shared` until SIGTERM."""
    lines = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @pgflow.job("shared", max_attempts=3, base_delay=0)
    def shared(message: Any, ctx: pgflow.TaskContext) -> Any:
        os.write(lines, f"began {ctx.run_id} {time.monotonic()}\n".encode())
        ctx.cancelled.wait(0.02)
        os.write(lines, f"ended {ctx.run_id} {time.monotonic()}\n".encode())
        return message

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with pgflow.start(conninfo, jobs=[shared], signal_strategy="notify", **QUICK) as starter:
        starter.await_ready(60)
        print("ready", flush=True)
        while True:
            threading.Event().wait(0.1)  # in slices: the signal may come just before a wait begins


if __name__ == "__main__":
    main(*sys.argv[1:])
