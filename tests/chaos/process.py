"""`Process`: a worker process that can be killed and stopped, and what it told until then."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from uuid import UUID

from psycopg.conninfo import make_conninfo

from tests.chaos.backends import OURS
from tests.chaos.ledger import Ledger
from tests.support.programs import ROOT, environment

END_WITHIN = 20.0
PROGRAM = ("-m", "tests.chaos.program")


class Process:
    """One after another of them, under one name. What they tell is in the ledger when `kill` or `close` returns.

    A run counts as returned when the process said so: of a call that it was killed in nobody knows the end.
    """

    def __init__(self, name: str, conninfo: str, ledger: Ledger, seed: int, pause: float, *, lives: bool) -> None:
        self._name = name
        self._conninfo = conninfo
        self._ledger = ledger
        self._seed = seed
        self._pause = pause
        self._lives = lives
        self._incarnation = 0
        self._state = ""
        self.problems: list[str] = []
        self.threads_left: list[str] = []
        self.start()

    @property
    def well(self) -> bool:
        """Whether all its modules are up, by its last word; it sends no more."""
        return self._state == "well quiet"

    @property
    def ready(self) -> bool:
        """Whether all its modules are up, by its last word."""
        return self._state.startswith("well")

    def start(self) -> None:
        """The next one; returns while it is starting."""
        self._incarnation += 1
        self._state = ""
        conninfo = make_conninfo(self._conninfo, application_name=f"{OURS}{self._name}.{self._incarnation}")
        given = (conninfo, self._seed, self._incarnation, self._pause, logging.root.manager.disable, int(self._lives))
        self._process = subprocess.Popen(
            [sys.executable, *PROGRAM, *map(str, given)],
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, name=f"{self._name}-reader")
        self._reader.start()

    def kill(self) -> None:
        """SIGKILL, in the midst of whatever it is at."""
        self._check_alive()
        self._process.kill()
        self._ended()

    def freeze(self) -> None:
        """SIGSTOP: it holds what it holds, and says nothing."""
        self._check_alive()
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def enough(self) -> None:
        """Let it send no more; returns at once."""
        self._check_alive()
        if self._process.stdin is not None and self._process.poll() is None:
            with suppress(BrokenPipeError):  # told when it is closed
                os.write(self._process.stdin.fileno(), b"enough\n")

    def close(self) -> None:
        """Let it stop in order; killed when it takes too long. Idempotent."""
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            return
        stdin.close()
        try:
            code = self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self.problems.append(f"{self._name} did not stop within {END_WITHIN:g} s")
            self._process.kill()
        else:
            if code:
                self.problems.append(f"{self._name} ended with {code}")
        self._ended()

    def _check_alive(self) -> None:
        if (code := self._process.poll()) is not None:
            self.problems.append(f"{self._name} ended by itself with {code}")

    def _ended(self) -> None:
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        by = f"{self._name}.{self._incarnation}"
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                return  # killed while it wrote
            match line.decode().split():
                case ["handled", run_id, step, index, at]:
                    self._ledger.handled((UUID(run_id), step, int(index)), float(at), by)
                case ["returned", run_id]:
                    self._ledger.returned(UUID(run_id))
                    self._ledger.count("returned in a process")
                case ["refused", kind]:
                    self._ledger.count(f"refused: {kind}")
                case ["left", *names]:
                    self.threads_left += [f"{self._name}: {name}" for name in names]
                case [state, activity]:
                    self._state = f"{state} {activity}"
                case words:
                    self.problems.append(f"{self._name} said {words}")
