"""`OwnThread`: the one thread of a part that is no actor; and `Threaded`: such a part, as its guardian sees it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("pgflow_starter.threads")

CLOSE_TIMEOUT = 1.0
"""Seconds that a thread gets to end."""

Died = Callable[[BaseException], None]


class Threaded(Protocol):
    """A part of the starter that has a thread of its own and is no actor. Thread-safe."""

    def revive(self, died: Died) -> None:
        """Start the thread, where there is work for one; `died` is called when it ends without having been closed."""


class OwnThread:
    """A daemon thread that calls `run`, which returns once its part is closed. Thread-safe.

    Where `run` raises, there is no thread any more, and the `died` of `revive` is called on it; without one it is
    `threading.excepthook`'s. `hangs` is what is logged of a thread that does not end; empty: nothing.
    """

    def __init__(self, name: str, run: Callable[[], object], *, hangs: str = "") -> None:
        self._name = name
        self._run = run
        self._hangs = hangs
        self._lock = threading.RLock()  # a signal handler may start it on top of whatever its thread was doing here
        self._thread: threading.Thread | None = None
        self._died: Died | None = None
        self._closed = False

    def start(self) -> None:
        """Start it unless it runs or is closed. Raises RuntimeError when there is no thread to be had."""
        if self._thread is not None:
            return  # the usual case, as cheap as it can be
        with self._lock:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._live, name=self._name, daemon=True)
                thread.start()  # may raise: then there is none to wait for
                self._thread = thread

    def revive(self, died: Died | None, *, needed: bool = True) -> None:
        """From now on `died` is called when it dies (None: as before). Start it where it is `needed`, as `start`."""
        with self._lock:
            self._died = died or self._died
            if needed:
                self.start()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """Start it no more, and wait so long for its end, not on itself; whether it has ended. Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            if self._hangs and thread.is_alive():
                logger.warning("%s: its thread is left to it", self._hangs)
        return thread is None or not thread.is_alive()

    def is_it(self, thread: threading.Thread) -> bool:
        """Whether it is that one. Never waits."""
        return thread is self._thread

    def _live(self) -> None:
        self._thread = threading.current_thread()  # `start`, which holds the lock, may get to that only later
        try:
            self._run()
        except BaseException as error:
            with self._lock:
                self._thread = None
                died = self._died
            if died is None:
                raise
            died(error)
