"""`Runtime`: the life of one starter, from its start to the end of all its threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from pgflow_starter.clock import one_wait
from pgflow_starter.config import Settings
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.state import ChildInfo, WorkerState
from pgflow_starter.errors import PgflowError, StarterStopped, StarterTerminated
from pgflow_starter.starter.parts import Parts
from pgflow_starter.starter.tree import ROOT_ID, root
from pgflow_starter.supervision.link import Link
from pgflow_starter.threads.cache import run_patiently

logger = logging.getLogger("pgflow_starter")

LEFTOVER_TIMEOUT = 0.2
"""Seconds for threads that should be gone already when a starter has stopped."""

SHOWN = 10
"""Threads that are named where they are left behind."""

FOR_EVER = 1e9
"""Seconds: as long as a stop may take at most, for a lock's longest wait is bounded."""

FROM_OUTSIDE = "it was stopped from outside"
"""What is said of a root that ended without an error of its own."""


def _stopped() -> PgflowError:
    return StarterStopped("the starter was stopped")


class Runtime:
    """One starter's life. Thread-safe; made and started once."""

    def __init__(
        self,
        conninfo: str,
        specs: Sequence[ModuleSpec],
        settings: Settings,
        stopped: Callable[[], PgflowError] = _stopped,
    ) -> None:
        """`stopped` makes what calls raise once `stop` was called."""
        parts = self.parts = Parts(conninfo, specs, settings, stopped)
        self.settings = settings
        self.clock, self.shutdown, self.tree = parts.clock, parts.shutdown, parts.tree
        self.board = parts.board
        self._ended = False
        self._done = threading.Lock()
        self._done.acquire()
        self._link = Link(self._root_ended)

    def start(self) -> None:
        """Start the tree on the root's own thread; returns at once."""
        parts = self.parts
        tell = parts.observer.started(parts.specs)
        with parts.guard:
            parts.gauges.open()
        parts.database.watch(parts.workers.database_back)
        parts.database.watch(parts.database_back)
        try:
            parts.database.revive()
            parts.dispatcher.start()
            self.root = self._link.start(root(parts, self.children), wait=False)
            run_patiently(parts.threads, parts.timers, partial(self._tell_started, tell))
        except BaseException:
            # No thread to be had, or a signal's exception: nobody will ever stop it.
            self.shutdown.begin(self.clock.monotonic())
            self._link.stop()
            if not self._link.running:  # else the root's end does that
                self._close_parts()
            raise

    def _tell_started(self, tell: Callable[[], None]) -> None:
        tell()
        self.board.announce_if_empty()
        self.parts.watch_listener()

    def stop(self, timeout: float) -> None:
        """Begin to stop; tasks get `timeout` seconds. Returns at once. Idempotent."""
        # First: whatever fails by the rest of it is no failure.
        seconds = min(timeout, FOR_EVER) if timeout > 0 else 0.0  # so NaN, which compares to nothing, is 0
        self.shutdown.begin(self.clock.monotonic() + seconds)
        # Each time: a signal's exception may have interrupted the one before anywhere.
        self.parts.lane.close()
        self.board.close(self.parts.stopped)
        self.parts.database.hurry()
        self.root.stop(block=False)
        self.parts.workers.hurry()

    def join(self, timeout: float) -> bool:
        """Wait until all is done; False after `timeout` seconds, or on a thread that is to be waited for itself."""
        thread = self._link.thread
        assert thread is not None  # set before `start` returned
        here = threading.current_thread()
        if here is thread or self.parts.threads.owns(here) or self.parts.event_loop.owns(here):
            return self._ended
        # A bare lock: a signal handler may come to wait on top of a wait of its own thread, and what interrupts a
        # Thread.join may leave it saying that the thread has ended.
        until = self.clock.monotonic() + timeout
        while not self._ended:
            left = until - self.clock.monotonic()
            if self._done.acquire(timeout=one_wait(left)):
                self._done.release()
            elif left <= 0:
                break
        if self._ended:
            thread.join(LEFTOVER_TIMEOUT)
            if self.shutdown.begun:
                self.parts.gauges.close()  # also of one that gave up, once somebody knows and stops it
        return self._ended

    def children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree, flat. Never waits."""
        return self.tree.flat(ChildInfo(ROOT_ID, None, "supervisor", 0, not self._link.ended))

    def asking(self) -> object | None:
        """On the thread of who asks for an attempt: what its trace is to know of the asker."""
        return self.parts.observer.asking()

    def workers(self) -> tuple[WorkerState, ...]:
        """The workers of this process. Never waits."""
        return self.parts.worker_states()

    def definitions(self) -> tuple[FlowDefinition, ...]:
        """Those of the registered modules. Never waits for long."""
        return tuple(r.definition for r in self.parts.registry.list())

    def _root_ended(self, _: Link, reason: BaseException | None) -> None:
        """On the root's thread, when it stopped or gave up: take everything down that is not an actor."""
        try:
            self._take_down(reason)
        finally:
            self._ended = True
            self._done.release()

    def _take_down(self, reason: BaseException | None) -> None:
        if not self.shutdown.begun:
            logger.critical(
                "the starter has terminated: %s", self.parts.redact(str(FROM_OUTSIDE if reason is None else reason))
            )
            self.parts.gauges.terminated()
            self.parts.incidents.died("", ROOT_ID, reason, restarting=False)
            terminated = partial(_terminated, reason, self.parts.redact)
            self.board.close(terminated)
            self._tell_terminated(terminated())
        elif reason is not None:
            # At the interpreter's exit an actor that was about to start may have got no thread.
            logger.warning("the starter did not stop in order: %s", self.parts.redact(str(reason)))
        self._close_parts()

    def _close_parts(self) -> None:
        parts = self.parts
        if self.shutdown.begun:
            parts.gauges.close()
        parts.incidents.closed()
        parts.event_loop.close()
        parts.timers.close()
        parts.tree.close()
        parts.close_client()
        if parts.listener is not None:
            parts.listener.close()
        parts.tally.close()
        parts.database.close()
        parts.dispatcher.close()
        # Last: a span's end may hang in its exporter, and then all else is closed.
        for cell in parts.board.cells:
            if cell.attempt is not None:
                cell.attempt.cut_short()
        abandoned = parts.threads.close(LEFTOVER_TIMEOUT)
        if abandoned:
            names = parts.threads.names()
            shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            logger.warning("threads that hang and are abandoned: %d (%s)", abandoned, shown)

    def _tell_terminated(self, terminated: StarterTerminated) -> None:
        if self.settings.on_terminate is not None:
            try:
                self.settings.on_terminate(terminated)
            except BaseException:
                logger.exception("on_terminate raised")


def _terminated(reason: BaseException | None, redact: Callable[[str], str]) -> StarterTerminated:
    why = f"gave up: {redact(str(reason))}" if reason is not None else f"has ended: {FROM_OUTSIDE}"
    error = StarterTerminated(f"the starter's supervisor {why}")
    error.__cause__ = reason
    return error
