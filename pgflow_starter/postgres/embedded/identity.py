"""As whom the embedded server runs."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgflow_starter.errors import SetupError

SHORT = 20.0
"""Seconds that a program which does next to nothing may take."""


@dataclass(frozen=True)
class Identity:
    """As whom the server runs; None everywhere: as ourselves. The names are those of `subprocess.Popen`."""

    user: int | None = None
    group: int | None = None
    extra_groups: Sequence[int] | None = None

    def own(self, path: Path | int) -> None:
        """Give a path, or an open file, to this identity; nothing to do where that is ourselves. Raises OSError.

        Whatever is in a folder that was given away can be a link to anything: what is given lies in one of ours.
        """
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def run(self, command: Sequence[object], *, cwd: Path | str = "/", timeout: float = SHORT) -> str | None:
        """Run a program to its end as this identity: None when it succeeded, else what it said.

        Takes `timeout` seconds at most. Raises SetupError when it took longer or could not be started at all.
        """
        try:
            done = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment(),
                timeout=timeout,
                check=False,
                user=self.user,
                group=self.group,
                extra_groups=self.extra_groups,
            )
        except subprocess.TimeoutExpired:
            raise SetupError(f"{Path(str(command[0])).name} did not end within {timeout:g} s") from None
        except OSError as error:
            raise SetupError(f"{Path(str(command[0])).name} cannot be run: {error}") from error
        return None if done.returncode == 0 else done.stdout.decode(errors="replace").strip() or "it said nothing"

    def can(self, *tests: tuple[str, Path]) -> bool:
        """Whether this identity passes every test of `test(1)`, such as `("-x", folder)`."""
        words = [word for flag, path in tests for word in ("-a", flag, str(path))][1:]
        return self.run(["/bin/sh", "-c", 'test "$@"', "sh", *words]) is None


def environment() -> dict[str, str]:
    """The server's environment: no PG* variable of the caller's reconfigures it, no secret goes to another user."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def server_identity() -> Identity:
    """Ourselves, or `nobody` (then `daemon`) for root, as whom PostgreSQL refuses to run. Raises SetupError."""
    if os.geteuid() != 0:
        return Identity()
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(user=entry.pw_uid, group=entry.pw_gid, extra_groups=())
    raise SetupError(
        "PostgreSQL refuses to run as root and this machine has no user 'nobody' to run it as: "
        "run as an ordinary user, or give a database with --dsn"
    )
