"""Programs of ours as processes: started, listened to, ended, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything that names a database, and with this package on the import path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **(extra or {})}


def sigint_counts() -> dict[str, Any]:
    """For Popen: the program gets SIGINT, also where the shell that started the tests behind `&` has it ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        return {}
    return {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}


def finished(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, within: float = TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """What Python made of these arguments, `within` seconds."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        **sigint_counts(),
    )


@contextmanager
def running(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """Python with these arguments; killed at the end of the block, or when it takes a minute."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(env),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **sigint_counts(),
    )
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        watchdog.cancel()
        watchdog.join()


def read_until(stream: IO[str] | None, words: str) -> str:
    """The stream up to and including the line that holds the words."""
    assert stream is not None
    read: list[str] = []
    for line in stream:
        read.append(line)
        if words in line:
            return "".join(read)
    raise AssertionError(f"{words!r} was never said, but: {''.join(read)}")
