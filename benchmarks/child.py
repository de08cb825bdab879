"""Measuring in a process of its own, which begins as a user's does: with nothing left over from what was before."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import pgflow_starter as pgflow

PATIENCE = 300.0


def measured_by(module: str, *arguments: object) -> dict[str, float]:
    """Run a module of ours with these arguments: what it told. Raises PgflowError when it fails."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    return told_by(command)


def told_by(command: list[str]) -> dict[str, float]:
    """The JSON on the last line that the command prints. Raises PgflowError when it fails."""
    # An installed package has its bytecode; without it most of an import would be compiling.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=env)
    if done.returncode:
        msg = f"{' '.join(command[1:3])} failed: {done.stderr[-500:]}"
        raise pgflow.PgflowError(msg)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def tell(**figures: Any) -> None:
    """Print the figures, and what the process has cost until now: CPU in seconds and its peak memory in MB."""
    print(json.dumps({**figures, **cost()}), flush=True)


def cost() -> dict[str, float]:
    """CPU of all this process's threads in seconds, and its peak memory in MB."""
    return {"cpu": time.process_time(), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
