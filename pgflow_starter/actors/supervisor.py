"""`SupervisorActor`: OTP's supervisor on pykka actors.

Everything happens on the supervisor's own thread, one message at a time; children only `tell` it. A thread cannot be
killed, so ending a child means: ask it to give up and to stop, wait its `shutdown`, then abandon it. From then on its
link is not the child's current one and whatever it still says is ignored.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pykka

from pgflow_starter.actors.base import Actor, Link, start_linked
from pgflow_starter.actors.tree import Tree
from pgflow_starter.core.children import (
    ChildSpec,
    ChildType,
    Restart,
    SupervisorFlags,
    check_children,
    restarted_with,
    to_restart,
)
from pgflow_starter.core.intensity import RestartWindow
from pgflow_starter.core.state import ChildInfo
from pgflow_starter.errors import PgflowError
from pgflow_starter.ports import Clock

logger = logging.getLogger("pgflow_starter.supervision")


class SupervisionError(PgflowError):
    """A supervisor refused a call; the message says why. `ref` is the running child, where that is the reason."""

    def __init__(self, message: str, ref: pykka.ActorRef[Any] | None = None) -> None:
        super().__init__(message)
        self.ref = ref


class ChildStartError(PgflowError):
    """A child could not be started; `__cause__` is what it raised."""


class RestartIntensityExceededError(PgflowError):
    """A supervisor had to restart its children more often than it may; `__cause__` is the last death's reason."""


@dataclass(frozen=True, slots=True)
class ChildDown:
    """To the supervisor: the incarnation behind `link` has ended."""

    child_id: str
    link: Link
    reason: BaseException | None


@dataclass(frozen=True, slots=True)
class TryAgain:
    """To itself: a restart failed, try again, letting calls that wait in between."""

    child_id: str


class Child:
    """A spec and its current incarnation; no ref while it is stopped or waits to be started again."""

    __slots__ = ("link", "ref", "restarting", "restarts", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.ref: pykka.ActorRef[Any] | None = None
        self.link: Link | None = None
        self.restarts = 0
        self.restarting = False

    @property
    def alive(self) -> bool:
        return self.ref is not None and self.link is not None and not self.link.ended


class SupervisorActor(Actor):
    """Starts `children` in order before it takes messages, restarts them by `flags`, stops them in reverse.

    `children` may be a function, asked anew by each incarnation.

    Call it through its ref or proxy. `watcher(child_id, reason)` is told of each unexpected end, on its thread.
    Dies with RestartIntensityExceededError when it gives up.
    """

    thread_name = "pgflow-supervisor"

    def __init__(
        self,
        supervisor_id: str,
        children: Iterable[ChildSpec] | Callable[[], Iterable[ChildSpec]],
        *,
        clock: Clock,
        flags: SupervisorFlags | None = None,
        tree: Tree | None = None,
        watcher: Callable[[str, BaseException | None], None] | None = None,
    ) -> None:
        super().__init__()
        self._id = supervisor_id
        specs = children() if callable(children) else children
        self._children = {spec.id: Child(spec) for spec in check_children(specs)}
        self._flags = flags = flags or SupervisorFlags()
        self._clock = clock
        self._window = RestartWindow(flags.max_restarts, flags.max_seconds)
        self._tree = tree or Tree()
        self._watcher = watcher
        self._abandoned = 0

    def name(self) -> str:
        return f"pgflow-supervisor-{self._id}"

    # --- life -------------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        self._tree.enter(self._id, self.actor_ref)
        for child in self._children.values():
            try:
                self._start(child)
            except BaseException as error:
                self._terminate(list(self._children.values()))
                msg = (
                    f"supervisor {self._id!r}: child {child.spec.id!r} failed to start: {type(error).__name__}: {error}"
                )
                raise ChildStartError(msg) from error
        self._publish()

    def on_stop(self) -> None:
        self._terminate(list(self._children.values()))
        self._publish()

    def on_failure(self, *_: Any) -> None:
        self._terminate(list(self._children.values()))
        self._publish()

    def on_receive(self, message: Any) -> Any:
        match message:
            case ChildDown(child_id, link, reason):
                self._on_down(child_id, link, reason)
            case TryAgain(child_id):
                child = self._children.get(child_id)
                if child is not None and child.restarting:
                    self._restart(child, None)
            case _:
                return super().on_receive(message)
        self._publish()
        return None

    # --- calls ------------------------------------------------------------------------------------------------------

    def start_child(self, spec: ChildSpec) -> pykka.ActorRef[Any]:
        """Add a child and start it. Raises SupervisionError when the id is taken, ChildStartError when it fails."""
        (spec,) = check_children([spec])
        present = self._children.get(spec.id)
        if present is not None:
            what = "already started" if present.ref is not None else "already present"
            msg = f"child {spec.id!r} is {what}"
            raise SupervisionError(msg, present.ref)
        child = Child(spec)
        try:
            ref = self._start(child)
        except BaseException as error:
            msg = f"child {spec.id!r} failed to start: {type(error).__name__}: {error}"
            raise ChildStartError(msg) from error
        self._children[spec.id] = child
        self._publish()
        return ref

    def ensure_child(self, spec: ChildSpec) -> pykka.ActorRef[Any]:
        """The running child of that id, started if need be. Raises ChildStartError."""
        child = self._children.get(spec.id)
        if child is None:
            return self.start_child(spec)
        return child.ref if child.ref is not None else self.restart_child(spec.id)

    def terminate_child(self, child_id: str) -> None:
        """Stop a child and keep its spec (a temporary one's is dropped). Raises SupervisionError for an unknown id."""
        child = self._child(child_id)
        child.restarting = False
        self._terminate([child])
        if child.spec.restart is Restart.TEMPORARY:
            del self._children[child_id]
        self._publish()

    def restart_child(self, child_id: str) -> pykka.ActorRef[Any]:
        """Start a stopped child. Raises SupervisionError when it runs or is being restarted, ChildStartError."""
        child = self._child(child_id)
        if child.restarting or child.ref is not None:
            msg = f"child {child_id!r} is {'being restarted' if child.restarting else 'running'}"
            raise SupervisionError(msg, child.ref)
        try:
            ref = self._start(child)
        except BaseException as error:
            msg = f"child {child_id!r} failed to start: {type(error).__name__}: {error}"
            raise ChildStartError(msg) from error
        self._publish()
        return ref

    def delete_child(self, child_id: str) -> None:
        """Forget a stopped child. Raises SupervisionError when it runs, is being restarted or is unknown."""
        child = self._child(child_id)
        if child.restarting or child.ref is not None:
            msg = f"child {child_id!r} is {'being restarted' if child.restarting else 'running'}"
            raise SupervisionError(msg, child.ref)
        del self._children[child_id]
        self._publish()

    def child(self, child_id: str) -> pykka.ActorRef[Any] | None:
        """The running incarnation of a child, None where there is none."""
        child = self._children.get(child_id)
        return None if child is None else child.ref

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The children in start order."""
        return tuple(
            ChildInfo(c.spec.id, self._id, str(c.spec.type), c.restarts, c.alive) for c in self._children.values()
        )

    def count_children(self) -> dict[str, int]:
        """OTP's four counts: specs, active, supervisors, workers; and `abandoned` threads."""
        children = self._children.values()
        supervisors = sum(c.spec.type is ChildType.SUPERVISOR for c in children)
        return {
            "specs": len(self._children),
            "active": sum(c.alive for c in children),
            "supervisors": supervisors,
            "workers": len(self._children) - supervisors,
            "abandoned": self._abandoned,
        }

    # --- inside -----------------------------------------------------------------------------------------------------

    def _child(self, child_id: str) -> Child:
        try:
            return self._children[child_id]
        except KeyError:
            msg = f"supervisor {self._id!r} has no child {child_id!r}"
            raise SupervisionError(msg) from None

    def _start(self, child: Child) -> pykka.ActorRef[Any]:
        child_id, me = child.spec.id, self.actor_ref

        def on_down(link: Link, reason: BaseException | None) -> None:
            try:
                me.tell(ChildDown(child_id, link, reason))
            except pykka.ActorDeadError:
                return

        link = Link(on_down)
        ref = start_linked(child.spec.start, link)
        child.ref, child.link, child.restarting = ref, link, False
        return ref

    def _on_down(self, child_id: str, link: Link, reason: BaseException | None) -> None:
        child = self._children.get(child_id)
        if child is None or child.link is not link:
            return  # one that was terminated on purpose, or abandoned
        child.ref = child.link = None
        logger.warning("%s: child %s died: %s", self._id, child_id, _why(reason))
        if self._watcher is not None:
            self._watcher(child_id, reason)
        if to_restart(child.spec.restart, reason is not None):
            self._restart(child, reason)
        elif child.spec.restart is Restart.TEMPORARY:
            del self._children[child_id]

    def _restart(self, child: Child, reason: BaseException | None) -> None:
        flags = self._flags
        if not self._window.admit(self._clock.monotonic()):
            msg = (
                f"supervisor {self._id!r} gives up: child {child.spec.id!r} died ({_why(reason)}) and would be restart"
                f" number {flags.max_restarts + 1} within {flags.max_seconds:g} s"
            )
            raise RestartIntensityExceededError(msg) from reason
        ids = restarted_with(flags.strategy, list(self._children), child.spec.id)
        group = [self._children[i] for i in ids]
        self._terminate([c for c in group if c is not child])
        for member in group:
            if member is not child and member.spec.restart is Restart.TEMPORARY:
                del self._children[member.spec.id]
                continue
            try:
                self._start(member)
            except BaseException as error:
                logger.warning("%s: restarting %s failed: %s", self._id, member.spec.id, _why(error))
                member.restarting = True
                self.actor_ref.tell(TryAgain(member.spec.id))
                return
            member.restarts += 1

    def _terminate(self, children: list[Child]) -> None:
        """Stop children one by one, the last first."""
        for child in reversed(children):
            link = self._ask_to_stop(child)
            if link is not None:
                self._await_end(child, link)

    def _ask_to_stop(self, child: Child) -> Link | None:
        ref, link = child.ref, child.link
        child.ref = child.link = None
        child.restarting = False
        if ref is None or link is None:
            return None
        link.cancel()
        ref.stop(block=False)
        return link

    def _await_end(self, child: Child, link: Link) -> None:
        shutdown = child.spec.shutdown
        assert shutdown is not None  # the spec's constructor sets it
        if not link.wait_ended(None if math.isinf(shutdown) else shutdown):
            self._abandoned += 1
            logger.error(
                "%s: child %s did not end within %g s; its thread is abandoned", self._id, child.spec.id, shutdown
            )

    def _publish(self) -> None:
        self._tree.put(self._id, self.which_children())


class DynamicSupervisorActor(SupervisorActor):
    """A supervisor of many alike children: they are asked to stop all at once, as by Elixir's DynamicSupervisor."""

    def _terminate(self, children: list[Child]) -> None:
        links = [(child, self._ask_to_stop(child)) for child in reversed(children)]
        for child, link in links:
            if link is not None:
                self._await_end(child, link)


def _why(reason: BaseException | None) -> str:
    return "stopped from outside" if reason is None else f"{type(reason).__name__}: {reason}"
