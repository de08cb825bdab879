"""The supervision tree, read without asking any of the actors in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.clock import SystemClock, one_wait
from pgflow_starter.core.state import ChildInfo


class Tree:
    """The current incarnations of the actors that are called by name, and the supervisors' children. Thread-safe."""

    def __init__(self) -> None:
        self._children: dict[str, Callable[[], tuple[ChildInfo, ...]]] = {}
        self._refs: dict[str, pykka.ActorRef[Any]] = {}
        # Entered by the lock itself: a signal's exception right after Condition.__enter__ would leave it held for ever.
        self._lock = threading.RLock()
        self._entered = threading.Condition(self._lock)
        self._closed = False

    def enter(
        self,
        actor_id: str,
        ref: pykka.ActorRef[Any],
        children: Callable[[], tuple[ChildInfo, ...]] | None = None,
    ) -> None:
        """A new incarnation of an actor that is called by name; a supervisor's `children` is asked on any thread."""
        with self._lock:
            self._refs[actor_id] = ref
            if children is not None:
                self._children[actor_id] = children
            self._entered.notify_all()

    def ref(self, actor_id: str) -> pykka.ActorRef[Any] | None:
        """The current incarnation, None before the first. Never waits."""
        return self._refs.get(actor_id)

    def await_other(self, actor_id: str, dead: pykka.ActorRef[Any] | None, timeout: float) -> pykka.ActorRef[Any]:
        """The incarnation after `dead`. Raises ActorDeadError when there is none within `timeout` seconds."""
        clock = SystemClock()
        with self._lock:
            deadline, left = clock.monotonic() + timeout, timeout
            while left > 0 and not self._closed and self._refs.get(actor_id) is dead:
                self._entered.wait(one_wait(left))
                left = deadline - clock.monotonic()
            ref = self._refs.get(actor_id)
        if ref is None or ref is dead:
            msg = f"{actor_id!r} has ended" if self._closed else f"{actor_id!r} was not started within {timeout:g} s"
            raise pykka.ActorDeadError(msg)
        return ref

    def close(self) -> None:
        """From now on no actor is started again: a caller that waits for one gets ActorDeadError."""
        with self._lock:
            self._closed = True
            self._entered.notify_all()

    def call(self, actor_id: str, method: str, *args: Any, timeout: float) -> Any:
        """Call the current incarnation and wait for its answer; sent again to the next when it was never executed.

        Raises ActorDeadError or pykka.Timeout when either takes longer than `timeout` seconds.
        """
        message = ProxyCall(attr_path=(method,), args=args, kwargs={})
        ref: pykka.ActorRef[Any] | None = self.ref(actor_id)
        while True:
            if ref is not None:
                with suppress(pykka.ActorDeadError):
                    return ref.ask(message, timeout=timeout)
            ref = self.await_other(actor_id, ref, timeout)

    def flat(self, root: ChildInfo) -> tuple[ChildInfo, ...]:
        """The root and all below it, parents before children."""
        found, seen = [root], set[str]()
        for info in found:
            if info.type == "supervisor" and info.id not in seen:  # ids are unique below one supervisor only
                seen.add(info.id)
                children = self._children.get(info.id)
                found += () if children is None else children()
        return tuple(found)
