"""The supervision tree as each supervisor last published it, read without asking any."""

from __future__ import annotations

import threading
from typing import Any

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.core.state import ChildInfo


class Tree:
    """The children of each supervisor, and the current incarnation of those who are called by name. Thread-safe."""

    def __init__(self) -> None:
        self._children: dict[str, tuple[ChildInfo, ...]] = {}
        self._refs: dict[str, pykka.ActorRef[Any]] = {}
        self._entered = threading.Condition()

    def enter(self, actor_id: str, ref: pykka.ActorRef[Any]) -> None:
        """A new incarnation of an actor that is called by name."""
        with self._entered:
            self._refs[actor_id] = ref
            self._entered.notify_all()

    def ref(self, actor_id: str) -> pykka.ActorRef[Any] | None:
        """The current incarnation, None before the first. Never waits."""
        return self._refs.get(actor_id)

    def await_other(self, actor_id: str, dead: pykka.ActorRef[Any] | None, timeout: float) -> pykka.ActorRef[Any]:
        """The incarnation after `dead`. Raises ActorDeadError when there is none within `timeout` seconds."""
        with self._entered:
            self._entered.wait_for(lambda: self._refs.get(actor_id) is not dead, timeout)
            ref = self._refs.get(actor_id)
        if ref is None or ref is dead:
            msg = f"{actor_id!r} was not started again within {timeout:g} s"
            raise pykka.ActorDeadError(msg)
        return ref

    def call(self, actor_id: str, method: str, *args: Any, timeout: float) -> Any:
        """Call the current incarnation and wait for its answer; sent again to the next when it was never executed.

        Raises ActorDeadError or pykka.Timeout when either takes longer than `timeout` seconds.
        """
        message = ProxyCall(attr_path=(method,), args=args, kwargs={})
        ref: pykka.ActorRef[Any] | None = self.ref(actor_id)
        while True:
            if ref is not None:
                try:
                    return ref.ask(message, timeout=timeout)
                except pykka.ActorDeadError:
                    pass
            ref = self.await_other(actor_id, ref, timeout)

    def put(self, supervisor_id: str, children: tuple[ChildInfo, ...]) -> None:
        """Replace what a supervisor says of its children."""
        self._children[supervisor_id] = children

    def flat(self, root: ChildInfo) -> tuple[ChildInfo, ...]:
        """The root and all below it, parents before children."""
        found = [root]
        for info in found:
            found += self._children.get(info.id, ()) if info.type == "supervisor" else ()
        return tuple(found)
