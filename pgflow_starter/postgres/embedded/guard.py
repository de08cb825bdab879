"""`Guard`: the process that the embedded server is a child of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.embedded import guard_program
from pgflow_starter.postgres.embedded.identity import Identity, environment

GONE_TIMEOUT = 30.0


class Guard:
    """Ends the server and removes the folders when this process ends, be it by a SIGKILL.

    On Linux the server ends when the guard itself is killed, too; the folders are left then. One thread at a time.
    """

    def __init__(self, home: Path, folders: Sequence[Path]) -> None:
        # Isolated: no variable and no folder of anybody's has it import something else.
        command = [sys.executable or "python3", "-I", "-S", guard_program.__file__, *map(str, folders)]
        try:
            self._process = subprocess.Popen(
                command,
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
            )
        except OSError as error:
            raise SetupError(f"the process that guards the server cannot be started: {error}") from error
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can start servers. Never waits."""
        return self._process.poll() is None

    def start(self, command: Sequence[object], identity: Identity) -> psutil.Process:
        """Start a server as `identity`; it reads nothing and writes its log in the home. Raises SetupError."""
        asked = {
            "command": [str(part) for part in command],
            "environment": environment(),
            "user": identity.user,
            "group": identity.group,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return psutil.Process(int(self._process.stdout.readline()))
        except psutil.NoSuchProcess:
            raise SetupError("PostgreSQL ended while starting") from None
        except (OSError, ValueError):
            raise SetupError("the process that guards the server ended before it could start it: try again") from None

    def close(self) -> None:
        """Have it end the server, remove the folders and end; 30 s at most. Idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(GONE_TIMEOUT)
