"""`ModuleCell`: what belongs to one module and outlives each incarnation of its actor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pykka

from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.said_once import Breaks
from pgflow_starter.core.state import ModuleStatus
from pgflow_starter.modules.machine import Machine
from pgflow_starter.modules.messages import ModuleMessage
from pgflow_starter.ports import AttemptObserver
from pgflow_starter.supervision.actor import tell


@dataclass(eq=False, slots=True)
class ModuleCell:
    """What belongs to one module and outlives each incarnation of its actor. Only that actor writes it."""

    spec: ModuleSpec
    machine: Machine
    ref: pykka.ActorRef[Any] | None = None
    job: Any = None
    attempt: AttemptObserver | None = None
    retry_wanted: bool = False
    asked: object | None = None
    worker_deaths: list[str] = field(default_factory=list)
    worker_retired_why: str = ""
    logged: tuple[ModuleStatus, object] | None = None
    breaks: Breaks = field(default_factory=Breaks)

    def tell(self, message: ModuleMessage) -> None:
        """Send to the current incarnation; a dead one's successor finds on this cell what it missed."""
        tell(self.ref, message)
