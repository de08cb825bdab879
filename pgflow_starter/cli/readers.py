"""Whether anybody reads what is printed: who watches may have nothing to write for hours."""

from __future__ import annotations

import errno
import select
import sys
from contextlib import suppress

_GONE = 0 if sys.platform == "win32" else select.POLLERR | select.POLLHUP


def leave_without_reader() -> None:
    """Raises BrokenPipeError, as the next write would, where standard output is a pipe that nobody reads any more."""
    events: list[tuple[int, int]] = []
    with suppress(AttributeError, OSError, ValueError):  # there is no such question, or no such file
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        events = poll.poll(0)
    if any(event & _GONE for _, event in events):
        raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")
