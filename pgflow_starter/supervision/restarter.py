"""`Restarter`: the life of a supervisor: which child is started, restarted and ended, when, and in which order.

Everything happens on its own thread, one message at a time; children only `tell` it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pykka

from pgflow_starter.clock import Clock, SystemClock
from pgflow_starter.supervision.actor import Actor, described, tell
from pgflow_starter.supervision.children import Child, Children
from pgflow_starter.supervision.errors import ChildStartError, RestartIntensityExceededError
from pgflow_starter.supervision.link import Link
from pgflow_starter.supervision.specs import ChildSpec, Restart, RestartWindow, SupervisorFlags, restarted_with
from pgflow_starter.supervision.tree import Tree
from pgflow_starter.threads.cache import call_logged

if TYPE_CHECKING:
    from pgflow_starter.ports import ActorObserver

logger = logging.getLogger("pgflow_starter.supervision")


class ChildDown(NamedTuple):
    """To the supervisor: the incarnation behind `link` has ended."""

    child_id: str
    link: Link
    reason: BaseException | None


class TryAgain(NamedTuple):
    """To itself: a restart failed for `reason`, try again, letting calls that wait in between."""

    child_id: str
    reason: BaseException


class Restarter(Actor):
    """Starts `children` in order before it takes messages, restarts them by `flags`, stops them in reverse.

    `children` may be a function, asked anew by each incarnation. `watcher(child_id, reason)` is called at each
    unexpected end, on this actor's thread, `observer` at each restart as well. `clock` is what restart intensity is
    measured by (default: the system's monotonic one). Dies with RestartIntensityExceededError when it gives up.
    """

    thread_name = "pgflow-supervisor"

    def __init__(
        self,
        supervisor_id: str,
        children: Iterable[ChildSpec] | Callable[[], Iterable[ChildSpec]],
        *,
        clock: Clock | None = None,
        flags: SupervisorFlags | None = None,
        tree: Tree | None = None,
        watcher: Callable[[str, BaseException | None], None] | None = None,
        observer: ActorObserver | None = None,
    ) -> None:
        self._children = Children(supervisor_id)  # first: from the next line on it may be abandoned
        super().__init__()
        self._id = supervisor_id
        self._children = Children(supervisor_id, children() if callable(children) else children)
        self._flags = flags = flags or SupervisorFlags()
        self._clock = clock or SystemClock()
        self._window = RestartWindow(flags.max_restarts, flags.max_seconds)
        self._tree = tree or Tree()
        self._watcher = watcher
        self._observer = observer

    def name(self) -> str:
        return f"pgflow-supervisor-{self._id}"

    def on_start(self) -> None:
        self._tree.enter(self._id, self.actor_ref, self._children.infos)
        for child in self._children:
            try:
                self._start(child)
            except BaseException as error:
                self._end_all()
                msg = f"supervisor {self._id!r}: child {child.id!r} failed to start: {described(error)}"
                raise ChildStartError(msg) from error

    def on_stop(self) -> None:
        self._end_all()

    def on_failure(self, *_: Any) -> None:
        self._end_all()

    def abandon(self) -> None:
        super().abandon()
        # It may never come back to stop its children.
        self._children.abandon()

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

    def _start(self, child: Child) -> pykka.ActorRef[Any]:
        child_id, me = child.id, self.actor_ref

        def on_down(link: Link, reason: BaseException | None) -> None:
            tell(me, ChildDown(child_id, link, reason))

        return self._children.start(child, self._check_not_abandoned, on_down)

    def _on_down(self, child_id: str, link: Link, reason: BaseException | None) -> None:
        child = self._children.get(child_id)
        if child is None or child.link is not link:
            return  # one that was terminated on purpose, or abandoned
        child.ref = child.link = None
        logger.warning("%s: child %s died: %s", self._id, child_id, _why(reason), extra=self._fields(child_id))
        restarting = child.spec.restart.follows(abnormal=reason is not None)
        if self._watcher is not None:
            call_logged(partial(self._watcher, child_id, reason), logger, f"{self._id}: the watcher")
        if self._observer is not None:
            self._tell_observer(partial(self._observer.died, self._id, child_id, reason, restarting=restarting))
        if restarting:
            self._restart(child, reason)
        else:
            self._forget_unless_kept([child])

    def _fields(self, child_id: str) -> dict[str, str]:
        return {"pgflow_supervisor": self._id, "pgflow_actor": child_id}

    def _tell_observer(self, call: Callable[[], object]) -> None:
        call_logged(call, logger, f"{self._id}: the observer")

    def _keeps(self, child: Child) -> bool:
        """Whether a child that ended for good stays known, to be started again by a call."""
        return child.spec.restart is not Restart.TEMPORARY

    def _forget_unless_kept(self, children: Iterable[Child]) -> None:
        for child in children:
            if not self._keeps(child):
                self._children.forget(child)

    def _restart(self, child: Child, reason: BaseException | None) -> None:
        flags = self._flags
        if not self._window.admit(self._clock.monotonic()):
            msg = (
                f"supervisor {self._id!r} gives up: child {child.id!r} died ({_why(reason)}) and would be restart"
                f" number {flags.max_restarts + 1} within {flags.max_seconds:g} s"
            )
            raise RestartIntensityExceededError(msg) from reason
        ids = restarted_with(flags.strategy, [c.id for c in self._children], child.id)
        group = [c for c in self._children if c.id in ids]
        others = [c for c in group if c is not child]
        self._terminate(others)
        self._forget_unless_kept(others)
        for member in group:
            if member is child or self._keeps(member):
                member.restarts += 1  # before the new incarnation can be met
                try:
                    self._start(member)
                except BaseException as error:
                    member.restarts -= 1
                    logger.warning(
                        "%s: restarting %s failed: %s", self._id, member.id, _why(error), extra=self._fields(member.id)
                    )
                    member.restarting = True
                    tell(self.actor_ref, TryAgain(member.id, error))  # unless it was abandoned meanwhile
                    return
                if self._observer is not None:
                    self._tell_observer(partial(self._observer.restarted, self._id, member.id))

    def _terminate(self, children: Sequence[Child]) -> None:
        self._children.stop(children)

    def _end_all(self) -> None:
        try:
            self._terminate(list(self._children))
        finally:
            self._children.abandon()  # where a fault of its own kept it from waiting for them


def _why(reason: BaseException | None) -> str:
    return "stopped from outside" if reason is None else described(reason)
