"""`SupervisorActor`: OTP's supervisor on pykka actors, that is: the calls on a `Restarter`; and the dynamic one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxyCall

from pgflow_starter.core.state import ChildInfo
from pgflow_starter.supervision.actor import described
from pgflow_starter.supervision.children import Child
from pgflow_starter.supervision.errors import ChildStartError, SupervisionError
from pgflow_starter.supervision.restarter import Restarter
from pgflow_starter.supervision.specs import ChildSpec, ChildType, Strategy

logger = logging.getLogger("pgflow_starter.supervision")


class SupervisorActor(Restarter):
    """Starts `children` in order before it takes messages, restarts them by `flags`, stops them in reverse.

    See `Restarter` for the arguments. Call it through its ref or proxy; a call that it refuses does it no harm.
    """

    def start_child(self, spec: ChildSpec) -> pykka.ActorRef[Any]:
        """Add a child and start it. Raises SupervisionError when the id is taken, ChildStartError when it fails."""
        child = self._children.add(spec)
        try:
            return self._start_as_asked(child)
        except ChildStartError:
            self._children.forget(child)
            raise

    def ensure_child(self, spec: ChildSpec) -> pykka.ActorRef[Any]:
        """The running child of that id, started if need be. Raises ChildStartError; SupervisionError in a restart."""
        child = self._children.get(spec.id)
        if child is None:
            return self.start_child(spec)
        return child.ref if child.ref is not None else self.restart_child(spec.id)

    def ensure_children(self, specs: Sequence[ChildSpec]) -> list[str]:
        """The ids of those that run, started if need be; why another does not, `ensure_child` tells."""
        running = []
        for spec in specs:
            with contextlib.suppress(ChildStartError, SupervisionError):
                self.ensure_child(spec)
                running.append(spec.id)
        return running

    def terminate_child(self, child_id: str) -> None:
        """Stop a child and keep its spec (a temporary one's is dropped). Raises SupervisionError for an unknown id."""
        child = self._children.find(child_id)
        self._terminate([child])
        self._forget_unless_kept([child])

    def restart_child(self, child_id: str) -> pykka.ActorRef[Any]:
        """Start a stopped child. Raises SupervisionError when it runs or is being restarted, ChildStartError."""
        return self._start_as_asked(self._children.find_stopped(child_id))

    def delete_child(self, child_id: str) -> None:
        """Forget a stopped child. Raises SupervisionError when it runs, is being restarted or is unknown."""
        self._children.forget(self._children.find_stopped(child_id))

    def get_childspec(self, child_id: str) -> ChildSpec:
        """The spec of a child, running or not. Raises SupervisionError for an unknown id."""
        return self._children.find(child_id).spec

    def child(self, child_id: str) -> pykka.ActorRef[Any] | None:
        """The running incarnation of a child, None where there is none."""
        child = self._children.get(child_id)
        return None if child is None else child.ref

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The children in start order. The tree calls it from any thread."""
        return self._children.infos()

    def count_children(self) -> dict[str, int]:
        """OTP's four counts: specs, active, supervisors, workers; and `abandoned` threads."""
        children = list(self._children)
        supervisors = sum(child.spec.type is ChildType.SUPERVISOR for child in children)
        return {
            "specs": len(children),
            "active": sum(child.alive for child in children),
            "supervisors": supervisors,
            "workers": len(children) - supervisors,
            "abandoned": self._children.abandoned,
        }

    def _start_as_asked(self, child: Child) -> pykka.ActorRef[Any]:
        try:
            return self._start(child)
        except BaseException as error:
            msg = f"child {child.id!r} failed to start: {described(error)}"
            raise ChildStartError(msg) from error

    def _serve(self, envelope: Envelope[Any]) -> None:
        try:
            super()._serve(envelope)
        except Exception as error:
            if not isinstance(envelope.message, ProxyCall):
                raise
            logger.warning("%s: %s failed: %s", self._id, ".".join(envelope.message.attr_path), described(error))


class DynamicSupervisorActor(SupervisorActor):
    """Like Elixir's DynamicSupervisor, but its children have ids and may be there from the start.

    Its strategy is one_for_one, its children are asked to stop all at once, and one that ended for good is forgotten.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._flags.strategy is not Strategy.ONE_FOR_ONE:
            msg = f"dynamic supervisor {self._id!r}: strategy must be one_for_one, got {self._flags.strategy}"
            raise ValueError(msg)

    def _keeps(self, child: Child) -> bool:
        return False

    def _terminate(self, children: Sequence[Child]) -> None:
        self._children.stop_together(children, self._clock)
