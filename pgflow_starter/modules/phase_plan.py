"""How a phase is carried out: `Phases` decides it once, and `PhaseJob` does as the plan says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import Identity

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope


class Here(NamedTuple):
    """On the actor's own thread: nothing has to be waited for. The call tells which module it is, once known."""

    call: Callable[[], Identity | None]


class OnThread(NamedTuple):
    """On some other thread, where its scope interrupts it."""

    call: Callable[[CancelScope], Identity | None]


class OnOwnThread(OnThread):
    """On a thread at once, beside the lane: it may hang."""


class InLane(OnThread):
    """In a place of the lane, when its turn has come."""


class Together(OnThread):
    """With those of other modules in one go; by its call, in a place of the lane, where that cannot be."""


class Listen(NamedTuple):
    """By the listener: `call` does not wait; the callback that it gets is called once, perhaps on another thread."""

    call: Callable[[Callable[[BaseException | None], object]], object]


Plan: TypeAlias = Here | OnOwnThread | InLane | Together | Listen


class Phases(Protocol):
    """The four phases of a registration, each idempotent. Thread-safe; asked for one phase of a module at a time."""

    def plan(self, spec: ModuleSpec, phase: Phase) -> Plan:
        """How the phase is carried out now. Does not wait; its call raises what `core.classify` can judge."""

    def run_together(self, specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        """What is planned `Together`, for each where all is as it has to be; whether it is done, for each.

        Raises what keeps them all from it, as a plan's call.
        """
