"""`Wakeup`: how other threads interrupt one that waits for a socket."""

from __future__ import annotations

import math
import select
import socket
from contextlib import suppress


class Wakeup:
    """A pair of sockets. `send` is for any thread, the rest for the one that waits."""

    def __init__(self) -> None:
        self._receive, self._send = socket.socketpair()
        self._receive.setblocking(False)
        self._send.setblocking(False)
        self._polls: dict[int | None, select.poll] = {}

    def send(self) -> None:
        """Have the wait that is under way, or the next, end at once."""
        with suppress(OSError):  # full: it will end anyway; closed: nobody is there to wake
            self._send.send(b".")

    def wait(self, seconds: float | None, other: int | None = None) -> bool:
        """Wait that long (None: for ever) for a `send` or for the socket of that number to be readable; whether it was.

        Takes what was sent.
        """
        if other not in self._polls:
            self._polls = {other: self._poll_of(other)}
        came = self._polls[other].poll(None if seconds is None else math.ceil(seconds * 1000))
        if any(number == self._receive.fileno() for number, _ in came):
            with suppress(BlockingIOError):
                while self._receive.recv(4096):
                    pass
        return bool(came)

    def _poll_of(self, other: int | None) -> select.poll:
        poll = select.poll()  # needs no file descriptor, of which there may be none left
        for number in (self._receive.fileno(), other):
            if number is not None:
                poll.register(number, select.POLLIN)
        return poll

    def close(self) -> None:
        """Idempotent."""
        self._receive.close()
        self._send.close()
