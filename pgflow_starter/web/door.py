"""Waitress's listening socket, which lets go of clients that keep others out. Needs the extra `web`."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import time
from typing import Any

from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from pgflow_starter.web.channel import OneAnswerChannel
from pgflow_starter.web.probes import PROBES

MOST_WAITING = 200
"""Connections that may be open without being answered: to ask takes no time, so that these are many."""

PATIENCE = 10.0
"""Seconds to send a whole request, and to read anything of the answer."""

LOOK_EVERY = 1.0
AT_ONCE = 64

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

logger = logging.getLogger("pgflow_starter.web")


class _Queue(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """Probes wait behind nobody. Waitress's own says so for each request that has to wait: a flood beside a flood."""

    def add_task(self, task: OneAnswerChannel) -> None:
        first = task.requests[0]
        with self.lock:
            if first.error is None and first.path.removesuffix("/") in PROBES:
                self.queue.appendleft(task)
            else:
                self.queue.append(task)
            self.queue_cv.notify()


class Door(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Always has room for one more: beyond `MOST_WAITING` the one that has waited longest is let go.

    Waitress's own limit lets nobody in until somebody leaves, and its timeout counts from the last byte. Those waiting
    have a quarter of this process's file descriptors at most: the rest is for what it is there for.
    Everything here is on the thread that polls.
    """

    channel_class = OneAnswerChannel
    _looks_at = 0.0
    _rests_until = 0.0
    _full = False
    _came = False

    def __init__(
        self, application: object, sockets: dict[int, Any], listening: socket.socket, told: Adjustments
    ) -> None:
        threads = _Queue()
        threads.set_thread_count(told.threads)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_waiting = (
            MOST_WAITING if descriptors == resource.RLIM_INFINITY else min(MOST_WAITING, descriptors // 4)
        )
        where = (listening.family, listening.type, listening.proto, listening.getsockname())
        super().__init__(
            application, sockets, True, listening, dispatcher=threads, adj=told, bind_socket=False, sockinfo=where
        )

    def readable(self) -> bool:
        now = time.monotonic()
        if now >= self._looks_at:
            self._looks_at = now + LOOK_EVERY
            for channel in list(self.active_channels.values()):
                if channel.idle_for(now) > PATIENCE:
                    channel.handle_close()  # waitress would wait until it can be written to, which may be never
        return now >= self._rests_until and bool(super().readable())

    def accept(self) -> Any:
        """None when there is nobody to let in, or no room."""
        try:
            found = super().accept()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            # Not for the sake of one who may not be there: without a descriptor the kernel does not look for one.
            if not self._came and not self._let_go(self._waiting()[:1]):
                # Tried again at once, it would fail again, and waitress tell of it each time.
                self._rests_until = time.monotonic() + LOOK_EVERY
                if not self._full:
                    logger.warning("no connection can be accepted for now: %s", os.strerror(error.errno))
                self._full = True
            return None
        self._full, self._came = False, found is not None
        return found

    def handle_accept(self) -> None:
        # Many for one look at all that are open: the client at the end of a crowd is to come in soon.
        self._came = False
        for _ in range(AT_ONCE):
            before = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == before:
                break
        self._let_go(self._waiting()[: -self._most_waiting])

    def _waiting(self) -> list[OneAnswerChannel]:
        # A dict keeps its order: the oldest come first.
        return [channel for channel in self.active_channels.values() if not channel.requests]

    def _let_go(self, channels: list[OneAnswerChannel]) -> int:
        for channel in channels:
            channel.handle_close()
        return len(channels)

    def maintenance(self, now: float) -> None:
        """Nothing: what waitress does here goes by the wall clock, and `readable` does it."""
