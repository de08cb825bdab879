"""`ModuleCell`: what belongs to one module and outlives each incarnation of its actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pykka

from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.said_once import Breaks
from pgflow_starter.core.state import ModuleStatus
from pgflow_starter.modules.machine import Machine
from pgflow_starter.modules.messages import ModuleMessage
from pgflow_starter.supervision.actor import tell

if TYPE_CHECKING:
    from pgflow_starter.ports import AttemptObserver


class ModuleCell:
    """What belongs to one module and outlives each incarnation of its actor. Only that actor writes it."""

    def __init__(self, spec: ModuleSpec, machine: Machine) -> None:
        self.spec = spec
        self.machine = machine
        self.ref: pykka.ActorRef[Any] | None = None
        self.job: Any = None
        self.attempt: AttemptObserver | None = None
        self.retry_wanted = False
        self.asked: object | None = None
        self.worker_deaths: list[str] = []
        self.worker_retired_why = ""
        self.logged: tuple[ModuleStatus, object] | None = None
        self.breaks = Breaks()

    def tell(self, message: ModuleMessage) -> None:
        """Send to the current incarnation; a dead one's successor finds on this cell what it missed."""
        tell(self.ref, message)
