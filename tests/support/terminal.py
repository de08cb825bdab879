"""Programs of ours before a pseudo-terminal, as a person has them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.programs import ROOT, TIMEOUT, environment, sigint_counts

CHUNK = 65536


class Screen:
    """What a program has written to its terminal, controls and all."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self._shown = ""

    def read_until(self, words: str) -> str:
        """All that was shown until now, the words among it. Raises AssertionError when the program ends without."""
        while words not in self._shown:
            chunk = self._chunk()
            if not chunk:
                raise AssertionError(f"{words!r} was never shown, but: {self._shown}")
            self._shown += chunk
        return self._shown

    def type(self, text: str) -> None:
        """As a person does at the keyboard."""
        os.write(self._terminal, text.encode())

    def rest(self) -> str:
        """All that was shown, once the program has ended."""
        while chunk := self._chunk():
            self._shown += chunk
        self.process.wait()
        return self._shown

    def _chunk(self) -> str:
        with suppress(OSError):  # nobody is at the other end any more
            return os.read(self._terminal, CHUNK).decode()
        return ""


@contextmanager
def on_terminal(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, piped: bool = False
) -> Iterator[Screen]:
    """Python with these arguments before a terminal; with `piped` standard output goes nowhere. Killed at the end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment({"TERM": "xterm", "LINES": "50", **(env or {})}),
        cwd=cwd,
        stdin=theirs,
        stdout=subprocess.DEVNULL if piped else theirs,
        stderr=theirs,
        **sigint_counts(),
    )
    os.close(theirs)
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        yield Screen(process, ours)
    finally:
        process.kill()
        process.wait()
        watchdog.cancel()
        watchdog.join()
        os.close(ours)
