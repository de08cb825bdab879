"""A running server seen from outside: whether it is ready, what it logged, and how to kill all of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pgflow_starter.errors import SetupError

READY_TIMEOUT = 60.0
GONE_TIMEOUT = 10.0
LOG_LINES = 12
MOST = 8192
"""Characters of a pid file that are read."""


def await_ready(process: psutil.Process, pid_file: Path, timeout: float = READY_TIMEOUT) -> None:
    """Return when the postmaster accepts connections, its crash recovery done. Raises SetupError when it ended or
    after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if _is_ready(pid_file, process.pid):
            return
        try:
            process.wait(0.01)
        except psutil.TimeoutExpired:
            continue
        raise SetupError("PostgreSQL ended while starting")
    raise SetupError(f"PostgreSQL accepted no connection within {timeout:g} s")


def ended(processes: Sequence[psutil.Process], timeout: float) -> bool:
    """Whether all of them have ended, after `timeout` seconds at most."""
    deadline = time.monotonic() + timeout
    while left := [process for process in processes if not is_dead(process)]:
        if time.monotonic() >= deadline:
            return False
        psutil.wait_procs(left, 0.005)
    return True


def kill_tree(postmaster: psutil.Process) -> None:
    """SIGKILL the postmaster and all its children. Returns when they are gone, 10 s at most."""
    family = [postmaster]
    with suppress(psutil.NoSuchProcess):
        # Stopped first: it can neither start another child nor tidy up after one.
        postmaster.suspend()
        family += postmaster.children(recursive=True)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    ended(family, GONE_TIMEOUT)


def tail(text: str) -> str:
    """The last lines of a log, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-LOG_LINES:]) or "(empty)"


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Whether that postmaster wrote, as the last line of its pid file, that it is ready."""
    try:
        # It is in a folder of the server's user: nobody else's file is read for it, and nobody waited for who writes.
        with open(os.open(pid_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            lines = file.read(MOST).splitlines()
    except (OSError, ValueError):
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def is_dead(process: psutil.Process) -> bool:
    """Gone, or a zombie: its new parent may take its time to collect it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
