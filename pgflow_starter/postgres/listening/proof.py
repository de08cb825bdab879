"""`Proof`: whether a LISTEN connection hears, shown by a notification that was sent to it over another."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pgflow_starter.clock import Clock

INTERVAL = 30.0
"""Seconds between proofs."""

TIMEOUT = 5.0
"""Seconds within which a notification that was sent must have arrived."""

ASKED_TIMEOUT = 30.0
"""Seconds after which it is sent again, should nobody have said whether it was."""

AGAIN = 0.1
"""Seconds after which it is sent again when it could not be; twice as many each time, up to TIMEOUT."""

POOLED_TIMEOUT = 2.0
"""The same behind a pooler, where it may be that none ever does."""


class Proof:
    """The proofs of one connection. `sent` comes on another thread, all else on the listener's.

    `notify(channel, sent)` sends and then calls `sent(whether it did)`; None: nothing is ever proven, and all is well.
    `changed` has the listener look again.
    """

    def __init__(
        self,
        channel: str,
        clock: Clock,
        notify: Callable[[str, Callable[[bool], None]], None] | None,
        changed: Callable[[], None],
    ) -> None:
        self.channel = channel
        self.heard = False
        self._clock = clock
        self._notify = notify
        self._changed = changed
        self._lock = threading.Lock()
        self._next_at = 0.0
        self._deadline: float | None = None
        self._asked = False
        self._timeout = TIMEOUT
        self._again_in = AGAIN

    def begin(self, *, pooled: bool = False) -> None:
        """The connection is there, `pooled` or to the server itself, and listens to the channel."""
        if pooled:
            self._timeout = min(TIMEOUT, POOLED_TIMEOUT)
        if self._notify is None:
            self.heard = True
        else:
            self._ask()

    def hasten(self) -> None:
        """The next one is due now, unless one is under way."""
        with self._lock:
            if not self._asked:
                self._next_at = 0.0

    def arrived(self) -> None:
        """The notification came."""
        with self._lock:
            self.heard = True
            self._asked = False
            self._deadline = None
            self._next_at = self._clock.monotonic() + INTERVAL

    def overdue(self) -> bool:
        """Whether a notification that was sent has not arrived in time; asks for the next when it is time for one."""
        if self._notify is None:
            return False
        now = self._clock.monotonic()
        with self._lock:
            if self._deadline is not None:
                return now >= self._deadline
            due = now >= self._next_at
        if due:
            self._ask()
        return False

    def patience(self) -> float | None:
        """Seconds until `overdue` is to be asked again; None: not before something happens."""
        if self._notify is None:
            return None
        with self._lock:
            at = self._next_at if self._deadline is None else self._deadline
        return max(0.0, at - self._clock.monotonic())

    def _ask(self) -> None:
        assert self._notify is not None
        with self._lock:
            self._asked = True
            self._next_at = self._clock.monotonic() + ASKED_TIMEOUT  # its word may get lost
        self._notify(self.channel, self._sent)

    def _sent(self, did: bool) -> None:
        with self._lock:
            if not self._asked:
                return  # it arrived before its sender came to say so
            now = self._clock.monotonic()
            if did:
                self._deadline = now + self._timeout
            else:
                # The pool that was to send it may be the one that broke with the last connection.
                self._asked = False
                self._next_at = now + self._again_in
                self._again_in = min(2 * self._again_in, TIMEOUT)
        self._changed()
