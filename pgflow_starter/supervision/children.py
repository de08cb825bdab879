"""`Children`: a supervisor's children and their incarnations: starting one, and ending it within its `shutdown`.

A thread cannot be killed, so ending a child means: ask it to give up and to stop, wait its `shutdown`, then abandon it:
it is fenced off, its link is not the child's current one any more, and whatever it still says is ignored.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pykka

from pgflow_starter.clock import Clock
from pgflow_starter.core.state import ChildInfo
from pgflow_starter.supervision.errors import Refusal, SupervisionError
from pgflow_starter.supervision.link import Link
from pgflow_starter.supervision.specs import ChildSpec, check_children

logger = logging.getLogger("pgflow_starter.supervision")


class Child:
    """A spec and its current incarnation; no ref while it is stopped or waits to be started again."""

    __slots__ = ("link", "ref", "restarting", "restarts", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec.of_one_child()
        self.ref: pykka.ActorRef[Any] | None = None
        self.link: Link | None = None
        self.restarts = 0
        self.restarting = False

    @property
    def id(self) -> str:
        """The spec's."""
        return self.spec.id

    @property
    def alive(self) -> bool:
        """Whether it runs. Thread-safe."""
        link = self.link  # read once: the tree asks from other threads
        return self.ref is not None and link is not None and not link.ended


class Children:
    """All of one supervisor, in start order. Its thread's own, but for `infos` and `abandon`, which are thread-safe."""

    def __init__(self, supervisor_id: str, specs: Iterable[ChildSpec] = ()) -> None:
        self._supervisor_id = supervisor_id
        self._by_id = {spec.id: Child(spec) for spec in check_children(specs)}
        self.abandoned = 0
        """How many threads of children did not end in time."""

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_id.values()))

    def get(self, child_id: str) -> Child | None:
        """The child of that id, None when there is none."""
        return self._by_id.get(child_id)

    def find(self, child_id: str) -> Child:
        """The child of that id. Raises SupervisionError."""
        child = self._by_id.get(child_id)
        if child is None:
            msg = f"supervisor {self._supervisor_id!r} has no child {child_id!r}"
            raise SupervisionError(msg, Refusal.NOT_FOUND)
        return child

    def find_stopped(self, child_id: str) -> Child:
        """The child of that id. Raises SupervisionError when it runs or is being restarted as well."""
        child = self.find(child_id)
        if child.restarting:
            msg = f"child {child_id!r} is being restarted"
            raise SupervisionError(msg, Refusal.RESTARTING)
        if child.ref is not None:
            msg = f"child {child_id!r} is running"
            raise SupervisionError(msg, Refusal.RUNNING, child.ref)
        return child

    def add(self, spec: ChildSpec) -> Child:
        """A new child, the last. Raises SupervisionError when the id is taken."""
        (spec,) = check_children([spec])
        present = self._by_id.get(spec.id)
        if present is not None:
            reason = Refusal.ALREADY_PRESENT if present.ref is None else Refusal.ALREADY_STARTED
            msg = f"child {spec.id!r} is {reason.replace('_', ' ')}"
            raise SupervisionError(msg, reason, present.ref)
        self._by_id[spec.id] = child = Child(spec)
        return child

    def forget(self, child: Child) -> None:
        """The child is known no longer."""
        del self._by_id[child.id]

    def infos(self) -> tuple[ChildInfo, ...]:
        """What others may know of each."""
        return tuple(ChildInfo(c.id, self._supervisor_id, str(c.spec.type), c.restarts, c.alive) for c in self)

    def start(
        self, child: Child, check: Callable[[], None], on_down: Callable[[Link, BaseException | None], None]
    ) -> pykka.ActorRef[Any]:
        """Start an incarnation and wait until its `on_start` has returned. Raises what it raised, or `check`."""
        child.link = link = Link(on_down)
        try:
            # Now that the link can be found: a supervisor that is abandoned later takes this incarnation with it.
            check()
            ref = link.start(child.spec.start)
        except BaseException:
            if link.running:  # what `start` made before it failed is no supervisor's child
                link.stop()
                self._await_end(child)
            child.link = None
            raise
        child.ref, child.restarting = ref, False
        return ref

    def stop(self, children: Sequence[Child]) -> None:
        """End them one by one, the last first."""
        for child in reversed(children):
            self._ask_to_stop(child)
            self._await_end(child)

    def stop_together(self, children: Sequence[Child], clock: Clock) -> None:
        """End them all at once; asked in start order, in which a registry finds each of thousands at once."""
        asked = clock.monotonic()
        for child in children:
            self._ask_to_stop(child)
        for child in children:
            self._await_end(child, clock.monotonic() - asked)

    def abandon(self) -> None:
        """Fence off all that have not ended: it may be that no thread ever comes to wait for them."""
        for child in self:
            link = child.link
            if link is not None:
                link.stop()
                link.abandon()

    def _ask_to_stop(self, child: Child) -> None:
        child.ref = None
        child.restarting = False
        if child.link is not None:
            child.link.stop()

    def _await_end(self, child: Child, waited: float = 0.0) -> None:
        """Wait what is left of the child's `shutdown` when `waited` seconds are over, then abandon it."""
        link, shutdown = child.link, child.spec.shutdown
        if link is None:
            return
        assert shutdown is not None  # the spec's constructor sets it
        endless = shutdown > threading.TIMEOUT_MAX
        if not link.wait_ended(None if endless else max(0.0, shutdown - waited)):
            self.abandoned += 1
            link.abandon()
            logger.error(
                "%s: child %s did not end within %g s; its thread is abandoned", self._supervisor_id, child.id, shutdown
            )
        child.link = None
