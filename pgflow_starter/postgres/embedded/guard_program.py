"""The program that guards an embedded server. It is started by its path and imports nothing of this package.

Its current folder is the server's home, its arguments are the folders to remove in the end. Each line that it reads is
a server to start, as JSON; it answers with the process id. When it reads the end, whoever started it has ended,
however: then it ends the server and removes the folders.

The server is its child, and the kernel is asked to end the server when this process is gone. The server's parent has to
be a process of one thread for that: what the kernel looks at is the thread that started a child.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from typing import Any

LOG = "server.log"

_PR_SET_PDEATHSIG = 1
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Start servers, one after the other, until there is nobody who would ask for one."""
    server = 0
    gone: set[int] = set()

    def collect(*_: object) -> None:
        # At once, so before the next line is read: one that was killed and is not collected counts as running.
        with suppress(ChildProcessError):  # the call before was for one that was stopped, and found it killed
            gone.add(os.waitpid(-1, os.WNOHANG)[0])

    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, collect)
    for line in sys.stdin:
        gone.clear()
        server = _start(**json.loads(line))
        print(server, flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # a number that was collected may be another's by now
    if server and server not in gone:
        os.kill(server, signal.SIGQUIT)
        os.kill(server, signal.SIGCONT)
        os.waitpid(server, 0)
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


def _start(command: list[str], environment: dict[str, str], user: int | None, group: int | None) -> int:
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        # Before it becomes another user, who cannot write here: so it is nobody's link that is opened.
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for number in (*_IGNORED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if user is not None and group is not None:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        _end_with(guard)
        os.execve(command[0], command, environment)
    except BaseException as error:
        os.write(2, f"{command[0]} cannot be run: {error}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _end_with(guard: int) -> None:
    """Have the kernel send this process a SIGQUIT when the guard ends, which stops a server at once. Linux only.

    After a change of user: that cancels it.
    """
    prctl: Any = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is None:
        return
    if prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGQUIT), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != guard:
        raise ProcessLookupError("its guard is gone")


if __name__ == "__main__":
    main()
