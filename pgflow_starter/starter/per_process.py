"""`Runtimes`: the runtimes behind one handle, one for each process that uses it.

Threads do not survive a fork, so a child has either none or one of its own. What it inherits of its parent's it leaves
alone: a lock that another thread held at the fork is held for ever, and closing a connection would end the parent's.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pgflow_starter.errors import ForkedError, StarterStopped
from pgflow_starter.starter.runtime import Runtime

STOP_GRACE = 1.0
"""Seconds beyond its timeout that stopping may take, to give back what still ran."""


running: dict[Runtime, int] = {}
"""The runtimes that the interpreter's exit stops, each with its process's id. There is one exit for all the starters of
a process, which may have been made by libraries that know nothing of each other: without this they would stop one after
the other. No lock: each operation on it is atomic, and a child inherits it as it is."""


class _OfProcess:
    """One process's runtime, and the lock under which it is started."""

    __slots__ = ("at_exit", "lock", "made", "started")

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may make a call on top of the one that starts
        self.made: Runtime | None = None
        self.started: Runtime | None = None
        self.at_exit: Callable[[], object] | None = None


class RuntimeFinder(Protocol):
    """What a handle leads to; see `Runtimes`."""

    def get(self) -> Runtime:
        """The runtime that there is now."""

    def stop(self, timeout: float | None) -> Callable[[], object]:
        """Begin to stop it; what is returned waits for its end."""


class Runtimes:
    """Made with its first runtime started; where it is `lazy`, each process's is by its first `get`. Thread-safe."""

    def __init__(self, make: Callable[[], Runtime], *, lazy: bool) -> None:
        self._make = make
        self._lazy = lazy
        self._pid = os.getpid()
        self._stopped = False
        # By process id: in a child it is another one, under a lock that nobody holds.
        self._by_process: dict[int, _OfProcess] = {}
        if not lazy:
            self._start()

    def get(self) -> Runtime:
        """This process's, whatever became of it; returns at once, also where it has to be started.

        Raises ForkedError where there is none and it is not lazy, StarterStopped where it was stopped before.
        """
        own = self._by_process.get(os.getpid())
        runtime = None if own is None else own.started
        if runtime is None:
            if not self._lazy:
                msg = (
                    f"this starter was started in process {self._pid}, and threads do not survive a fork:"
                    " start another in the child, or make it with start(..., lazy=True)"
                )
                raise ForkedError(msg)
            runtime = self._start()
        return runtime

    def stop(self, timeout: float | None) -> Callable[[], object]:
        """Begin to stop this process's runtime, if it has one, and never start one; what is returned waits for its end.

        Tasks get `timeout` seconds, None: `shutdown_timeout`. The wait takes a second longer at most.
        """
        # Before looking: a thread that is about to start one sees it afterwards, or we see what it has started.
        self._stopped = True
        own = self._by_process.get(os.getpid())
        if own is None:
            return _nothing
        with own.lock:
            runtime = own.started
        if runtime is None:
            return _nothing  # a signal handler's, on top of the call that is about to start it and will see to it
        runtime.stop(runtime.settings.shutdown_timeout if timeout is None else timeout)
        return partial(_await_end, runtime, own.at_exit)

    def part(self) -> None:
        """This process's has ended by itself: wait a second at most for the rest of it, and forget it at exit."""
        own = self._by_process.get(os.getpid())
        if own is not None and own.started is not None:
            _part(own.started, STOP_GRACE, own.at_exit)

    def _start(self) -> Runtime:
        own = self._by_process.setdefault(os.getpid(), _OfProcess())
        with own.lock:
            if own.made is not None:
                return own.made
            if self._stopped:
                msg = "the starter was stopped before its first call"
                raise StarterStopped(msg)
            made = self._make()
            if own.made is None:  # else a signal handler's call, on top of this one, was quicker
                own.made = made
                try:
                    made.start()
                except BaseException:
                    own.made = None
                    raise
                # A bound method of ours would keep the handle, and one that was dropped may still stop.
                own.at_exit = partial(stop_at_exit, made, os.getpid())
                atexit.register(own.at_exit)
                running[made] = os.getpid()
                own.started = made
                if self._stopped:
                    made.stop(made.settings.shutdown_timeout)
            return own.made


def _nothing() -> None:
    """There is nothing to wait for."""


def _await_end(runtime: Runtime, at_exit: Callable[[], object] | None) -> None:
    left = runtime.shutdown.deadline - runtime.clock.monotonic()
    _part(runtime, max(0.0, left) + STOP_GRACE, at_exit)


def _part(runtime: Runtime, timeout: float, at_exit: Callable[[], object] | None) -> None:
    # Kept while it has not ended: a thread of the starter's own does not wait, and then the interpreter's exit does.
    if runtime.join(timeout) and at_exit is not None:
        atexit.unregister(at_exit)
        running.pop(runtime, None)


def stop_at_exit(runtime: Runtime, pid: int) -> None:
    """At interpreter exit: what a starter that nobody stopped would have wanted. Not in a forked child.

    The first of them begins to stop them all, so that they take as long as the slowest. No thread can be started any
    more then (Python 3.12 and later), nor does it take one.
    """
    if os.getpid() == pid:
        for each in [r for r, of in list(running.items()) if of == pid]:
            running.pop(each, None)  # a thread that waits for its end may have done so meanwhile
            each.stop(each.settings.shutdown_timeout)
        _await_end(runtime, None)
