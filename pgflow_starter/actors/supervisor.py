"""`SupervisorActor`: OTP's supervisor on pykka actors.

Everything happens on the supervisor's own thread, one message at a time; children only `tell` it. A thread cannot be
killed, so ending a child means: ask it to give up and to stop, wait its `shutdown`, then abandon it: it is fenced off,
its link is not the child's current one any more, and whatever it still says is ignored.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxyCall

from pgflow_starter.actors.base import Actor, Link, start_linked, told
from pgflow_starter.actors.tree import Tree
from pgflow_starter.core.children import (
    ChildSpec,
    ChildType,
    Restart,
    Strategy,
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
    """To itself: a restart failed for `reason`, try again, letting calls that wait in between."""

    child_id: str
    reason: BaseException


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
        link = self.link  # read once: the tree asks from other threads
        return self.ref is not None and link is not None and not link.ended


class SupervisorActor(Actor):
    """Starts `children` in order before it takes messages, restarts them by `flags`, stops them in reverse.

    `children` may be a function, asked anew by each incarnation.

    Call it through its ref or proxy; a call that it refuses does it no harm, told or asked. `watcher(child_id, reason)`
    is told of each unexpected end, on its thread. Dies with RestartIntensityExceededError when it gives up.
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
        self._children: dict[str, Child] = {}  # first: from the next line on it may be abandoned
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
        self._tree.enter(self._id, self.actor_ref, self.which_children)
        for child in self._children.values():
            try:
                self._start(child)
            except BaseException as error:
                self._terminate(list(self._children.values()))
                msg = f"supervisor {self._id!r}: child {child.spec.id!r} failed to start: {told(error)}"
                raise ChildStartError(msg) from error

    def on_stop(self) -> None:
        self._terminate(list(self._children.values()))

    def on_failure(self, *_: Any) -> None:
        self._terminate(list(self._children.values()))

    def abandon(self) -> None:
        super().abandon()
        # It may never come back to stop its children.
        for child in list(self._children.values()):
            link = child.link
            if link is not None:
                link.stop()
                link.abandon()

    def on_receive(self, message: Any) -> Any:
        match message:
            case ChildDown(child_id, link, reason):
                self._on_down(child_id, link, reason)
            case TryAgain(child_id, reason):
                child = self._children.get(child_id)
                if child is not None and child.restarting:
                    self._restart(child, reason)
            case _:
                return super().on_receive(message)
        return None

    def _serve(self, envelope: Envelope[Any]) -> None:
        try:
            super()._serve(envelope)
        except Exception as error:
            if not isinstance(envelope.message, ProxyCall):
                raise
            logger.warning("%s: %s failed: %s", self._id, ".".join(envelope.message.attr_path), told(error))

    # --- calls ------------------------------------------------------------------------------------------------------

    def start_child(self, spec: ChildSpec) -> pykka.ActorRef[Any]:
        """Add a child and start it. Raises SupervisionError when the id is taken, ChildStartError when it fails."""
        (spec,) = check_children([spec])
        present = self._children.get(spec.id)
        if present is not None:
            what = "already started" if present.ref is not None else "already present"
            msg = f"child {spec.id!r} is {what}"
            raise SupervisionError(msg, present.ref)
        self._children[spec.id] = child = Child(spec)
        try:
            return self._start(child)
        except BaseException as error:
            del self._children[spec.id]
            msg = f"child {spec.id!r} failed to start: {told(error)}"
            raise ChildStartError(msg) from error

    def ensure_child(self, spec: ChildSpec) -> pykka.ActorRef[Any]:
        """The running child of that id, started if need be. Raises ChildStartError; SupervisionError in a restart."""
        child = self._children.get(spec.id)
        if child is None:
            return self.start_child(spec)
        return child.ref if child.ref is not None else self.restart_child(spec.id)

    def terminate_child(self, child_id: str) -> None:
        """Stop a child and keep its spec (a temporary one's is dropped). Raises SupervisionError for an unknown id."""
        child = self._child(child_id)
        self._terminate([child])
        self._forget_unless_kept([child])

    def restart_child(self, child_id: str) -> pykka.ActorRef[Any]:
        """Start a stopped child. Raises SupervisionError when it runs or is being restarted, ChildStartError."""
        child = self._child(child_id)
        if child.restarting or child.ref is not None:
            msg = f"child {child_id!r} is {'being restarted' if child.restarting else 'running'}"
            raise SupervisionError(msg, child.ref)
        try:
            return self._start(child)
        except BaseException as error:
            msg = f"child {child_id!r} failed to start: {told(error)}"
            raise ChildStartError(msg) from error

    def delete_child(self, child_id: str) -> None:
        """Forget a stopped child. Raises SupervisionError when it runs, is being restarted or is unknown."""
        child = self._child(child_id)
        if child.restarting or child.ref is not None:
            msg = f"child {child_id!r} is {'being restarted' if child.restarting else 'running'}"
            raise SupervisionError(msg, child.ref)
        del self._children[child_id]

    def child(self, child_id: str) -> pykka.ActorRef[Any] | None:
        """The running incarnation of a child, None where there is none."""
        child = self._children.get(child_id)
        return None if child is None else child.ref

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The children in start order. The tree calls it from any thread."""
        children = list(self._children.values())
        return tuple(ChildInfo(c.spec.id, self._id, str(c.spec.type), c.restarts, c.alive) for c in children)

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

        child.link = link = Link(on_down)
        try:
            if self.actor_stopped.is_set():
                msg = f"supervisor {self._id!r} is abandoned and starts no more children"
                raise SupervisionError(msg)
            ref = start_linked(child.spec.start, link)
        except BaseException:
            if link.running:  # what `start` made before it failed is no child of anybody's
                link.stop()
                self._await_end(child)
            child.link = None
            raise
        child.ref, child.restarting = ref, False
        return ref

    def _on_down(self, child_id: str, link: Link, reason: BaseException | None) -> None:
        child = self._children.get(child_id)
        if child is None or child.link is not link:
            return  # one that was terminated on purpose, or abandoned
        child.ref = child.link = None
        logger.warning("%s: child %s died: %s", self._id, child_id, _why(reason))
        self._tell_watcher(child_id, reason)
        if to_restart(child.spec.restart, reason is not None):
            self._restart(child, reason)
        else:
            self._forget_unless_kept([child])

    def _tell_watcher(self, child_id: str, reason: BaseException | None) -> None:
        if self._watcher is not None:
            try:
                self._watcher(child_id, reason)
            except BaseException:
                logger.exception("%s: the watcher raised", self._id)

    def _keeps(self, child: Child) -> bool:
        """Whether a child that ended for good stays known, to be started again by a call."""
        return child.spec.restart is not Restart.TEMPORARY

    def _forget_unless_kept(self, children: Iterable[Child]) -> None:
        for child in children:
            if not self._keeps(child):
                del self._children[child.spec.id]

    def _restart(self, child: Child, reason: BaseException | None) -> None:
        flags = self._flags
        if not self._window.admit(self._clock.monotonic()):
            msg = (
                f"supervisor {self._id!r} gives up: child {child.spec.id!r} died ({_why(reason)}) and would be restart"
                f" number {flags.max_restarts + 1} within {flags.max_seconds:g} s"
            )
            raise RestartIntensityExceededError(msg) from reason
        ids = restarted_with(flags.strategy, list(self._children), child.spec.id)
        others = [self._children[i] for i in ids if i != child.spec.id]
        self._terminate(others)
        self._forget_unless_kept(others)
        for member in [self._children[i] for i in ids if i in self._children]:
            member.restarts += 1  # before anybody can meet the new incarnation
            try:
                self._start(member)
            except BaseException as error:
                member.restarts -= 1
                logger.warning("%s: restarting %s failed: %s", self._id, member.spec.id, _why(error))
                member.restarting = True
                self._try_again(TryAgain(member.spec.id, error))
                return

    def _try_again(self, message: TryAgain) -> None:
        with contextlib.suppress(pykka.ActorDeadError):  # abandoned meanwhile
            self.actor_ref.tell(message)

    def _terminate(self, children: list[Child]) -> None:
        """Stop children one by one, the last first."""
        for child in reversed(children):
            self._ask_to_stop(child)
            self._await_end(child)

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
            self._abandoned += 1
            link.abandon()
            logger.error(
                "%s: child %s did not end within %g s; its thread is abandoned", self._id, child.spec.id, shutdown
            )
        child.link = None


class DynamicSupervisorActor(SupervisorActor):
    """A supervisor of many alike children that do not depend on each other, like Elixir's DynamicSupervisor.

    Its strategy is one_for_one, its children are asked to stop all at once, and one that ended for good is forgotten.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._flags.strategy is not Strategy.ONE_FOR_ONE:
            msg = f"dynamic supervisor {self._id!r}: strategy must be one_for_one, got {self._flags.strategy}"
            raise ValueError(msg)

    def _keeps(self, child: Child) -> bool:
        return False

    def _terminate(self, children: list[Child]) -> None:
        asked = self._clock.monotonic()
        for child in reversed(children):
            self._ask_to_stop(child)
        for child in reversed(children):
            self._await_end(child, self._clock.monotonic() - asked)


def _why(reason: BaseException | None) -> str:
    return "stopped from outside" if reason is None else told(reason)
