"""Threads for work that may block: reused while warm, and left behind when it hangs."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias

from pgflow_starter.clock import SystemClock, Timers

logger = logging.getLogger("pgflow_starter.threads")

_Inbox: TypeAlias = SimpleQueue[Callable[[], object] | None]

IDLE_SECONDS = 5.0
IDLE_END = 1.0
"""Seconds after which an idle thread ends, and which it then gets for that."""

_numbers = itertools.count(1)

AGAIN_INTERVAL = 1.0
"""Seconds until what found no thread is tried again."""


class ThreadsClosedError(RuntimeError):
    """There is no thread, nor will there be."""


class ThreadCache:
    """Runs each call on a daemon thread at once, on an idle one where there is one; idle ones end after 5 seconds.

    Unbounded by design, so that a call that hangs delays no other: its users bound what they submit. Thread-safe.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Reentrant: a signal handler may run a call on top of whatever its thread was doing here.
        self._lock = threading.RLock()
        self._idle: deque[_Inbox] = deque()
        self._threads: dict[threading.Thread, _Inbox] = {}
        self._closed = False

    def run(self, call: Callable[[], object]) -> None:
        """Run the call on another thread. Raises RuntimeError when there is no thread to be had, or after `close`."""
        with self._lock:
            if self._closed:
                msg = f"the threads {self._name!r} are closed"
                raise ThreadsClosedError(msg)
            if self._idle:
                self._idle.pop().put(call)
            else:
                self._start(call)

    def _start(self, call: Callable[[], object]) -> None:
        """Under the lock: a thread that `close` finds has started, and none starts after it."""
        inbox: _Inbox = SimpleQueue()
        inbox.put(call)
        name = f"{self._name}-{next(_numbers)}"
        # A context of its own: what this caller has current is no business of the calls that come after its own.
        thread = threading.Thread(target=Context().run, args=(self._serve, inbox), name=name, daemon=True)
        self._threads[thread] = inbox
        try:
            thread.start()
        except RuntimeError:  # there is none; after any other exception, a signal's, it may come yet
            self._threads.pop(thread, None)
            raise

    def names(self) -> list[str]:
        """Of its threads, but for the caller's own, that have not ended."""
        with self._lock:
            others = self._threads.keys() - {threading.current_thread()}
        return sorted(thread.name for thread in others if thread.is_alive())

    def busy(self) -> int:
        """How many of its threads run a call."""
        with self._lock:
            return len(self._threads) - len(self._idle)

    def owns(self, thread: threading.Thread) -> bool:
        """Whether the thread is one of these. Never waits."""
        return thread in self._threads

    def close(self, timeout: float) -> int:
        """End the idle threads, wait up to `timeout` seconds for the busy ones together; how many are abandoned.

        Nothing keeps the idle ones from ending but a busy machine: they get a second. From one of its own threads it
        waits for the others alone. Idempotent.
        """
        with self._lock:
            self._closed = True
            for inbox in self._idle:
                inbox.put(None)
            idle = set(map(id, self._idle))
            self._idle.clear()
            others = {t: inbox for t, inbox in self._threads.items() if t is not threading.current_thread()}
            busy = [thread for thread, inbox in others.items() if id(inbox) not in idle]
        clock = SystemClock()
        began = clock.monotonic()
        for waited, limit in ((busy, timeout), (others.keys() - busy, max(timeout, IDLE_END))):
            for thread in waited:
                with suppress(RuntimeError):  # one that a signal's exception kept from being started
                    thread.join(max(0.0, began + limit - clock.monotonic()))
        return sum(thread.is_alive() and thread in self._threads for thread in busy)

    def _serve(self, inbox: _Inbox) -> None:
        try:
            while (call := self._next(inbox)) is not None:
                call_logged(call, logger)
                call = None
                with self._lock:
                    if self._closed:
                        return
                    self._idle.append(inbox)
        finally:
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

    def _next(self, inbox: _Inbox) -> Callable[[], object] | None:
        try:
            return inbox.get(timeout=IDLE_SECONDS)
        except Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # a call was handed over just as the time was up


def call_logged(call: Callable[[], object], log: logging.Logger, what: str = "") -> None:
    """Make the call on this thread; what it raises, whatever that is, is logged: that `what` (the call) raised."""
    try:
        call()
    except BaseException:
        log.exception("%s raised", what or f"a call on {threading.current_thread().name}")


class doing:  # noqa: N801 - read as a word in the with statement
    """Meanwhile the calling thread's name says so, to a person that looks at the threads there are."""

    __slots__ = ("_name", "_thread", "_what")

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._thread = threading.current_thread()
        self._name = self._thread.name
        self._thread.name = f"{self._name} {self._what}"

    def __exit__(self, *_: object) -> None:
        self._thread.name = self._name


def run_patiently(threads: ThreadCache, timers: Timers, call: Callable[[], object]) -> None:
    """Run the call on a thread; where there is none, again each second until there is, or the threads are closed.

    Returns at once. For what would not come again: a process may be out of threads for a while (ulimit, pids.max).
    """
    try:
        threads.run(call)
    except ThreadsClosedError:
        return
    except RuntimeError:
        timers.after(AGAIN_INTERVAL, partial(run_patiently, threads, timers, call))
