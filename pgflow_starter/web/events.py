"""Server-sent events: the status when it changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Self

from pgflow_starter.clock import Clock
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import PgflowError
from pgflow_starter.web.snapshot import Facts, Snapshots

LOOK_EVERY = 0.25
"""Seconds between two looks, so between two messages at least."""

HEARTBEAT = 15.0
"""Seconds without news after which a stream says that it is still there."""

BLIND_HEARTBEAT = 3.0
"""The same where only writing finds out whether the reader has gone, and frees the thread that it held."""

LASTS = 10.0
"""Seconds that a stream lasts where another's server serves it: one that stops waits for open requests, and nobody
tells us that it does."""

RETRY_MS = 500
"""Milliseconds until a reader comes again after a stream's end: it is to miss little."""

AGAIN = "event: again\ndata: this stream has lasted long enough; open another\n\n"
"""Tells an end that is planned from a connection that is lost."""


class Streams:
    """The streams that are open: `limit` at most, for each holds a thread of the server. Thread-safe."""

    def __init__(self, snapshots: Snapshots, clock: Clock, *, limit: int, lasts: float) -> None:
        self.snapshots = snapshots
        self.clock = clock
        self.lasts = lasts
        self.closing = threading.Event()
        self._free = threading.Semaphore(limit)

    def open(self, disconnected: Callable[[], bool] | None) -> Stream | None:
        """A new stream, None when there is no room. It has to be closed, as WSGI servers do.

        `disconnected` tells whether its reader has gone, where the server knows.
        """
        if self.closing.is_set() or not self._free.acquire(blocking=False):
            return None
        return Stream(self, disconnected, self._free.release)

    def close(self) -> None:
        """Let all streams end soon. Does not wait. Idempotent."""
        self.closing.set()


class Stream:
    """An iterator over messages. Blocks between them; one thread at a time."""

    def __init__(self, streams: Streams, disconnected: Callable[[], bool] | None, release: Callable[[], None]) -> None:
        self._streams = streams
        self._disconnected = disconnected or bool
        self._heartbeat = HEARTBEAT if disconnected else BLIND_HEARTBEAT
        self._release: Callable[[], None] | None = release
        self._facts: Facts | None = None
        self._spoke_at = 0.0
        self._ends_at = streams.clock.monotonic() + streams.lasts
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        streams = self._streams
        while not self._ended:
            if self._facts is not None and streams.closing.wait(LOOK_EVERY):
                break
            if self._disconnected():
                break
            message = self._news()
            if message is not None:
                self._spoke_at = streams.clock.monotonic()
                return message.encode()
        raise StopIteration

    def close(self) -> None:
        """Give the place away. Idempotent."""
        self._ended = True
        release, self._release = self._release, None
        if release is not None:
            release()

    def _news(self) -> str | None:
        streams, before = self._streams, self._facts
        try:
            facts = self._facts = streams.snapshots.look()
        except PgflowError as error:
            self._ended = True
            return f"event: ended\ndata: {json.dumps(ended(error))}\n\n"
        if before is None:
            return f"retry: {RETRY_MS}\n{_status(streams.snapshots.write(facts))}"
        if streams.clock.monotonic() >= self._ends_at:
            self._ended = True
            return AGAIN
        if facts != before:
            return _status(streams.snapshots.write(facts))
        if streams.clock.monotonic() - self._spoke_at >= self._heartbeat:
            # The comment is for proxies; a page is not told of comments, and has to know that it is not cut off.
            return f": heartbeat\nevent: heartbeat\ndata: {streams.clock.now().isoformat()}\n\n"
        return None


def ended(error: PgflowError) -> dict[str, str]:
    """What is said of a starter that has ended, in place of its status."""
    return {"error": type(error).__name__, "reason": one_line(str(error))}


def _status(line: str) -> str:
    return f"event: status\ndata: {line}\n\n"
