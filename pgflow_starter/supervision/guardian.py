"""`GuardianActor`: brings a plain thread under supervision."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pykka

from pgflow_starter.supervision.actor import Actor
from pgflow_starter.threads.own_thread import Threaded


@dataclass(frozen=True, slots=True)
class ThreadDied:
    """The guarded thread ended without having been closed."""

    error: BaseException


class GuardianActor(Actor):
    """Has the part's thread started, and dies with it: the supervisor's restart revives both."""

    def __init__(self, part_name: str, part: Threaded) -> None:
        super().__init__()
        self._part_name = part_name
        self._part = part

    def name(self) -> str:
        return f"pgflow-guardian-{self._part_name}"

    def on_start(self) -> None:
        self._part.revive(self._tell_died)

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, ThreadDied):
            raise message.error
        return super().on_receive(message)

    def _tell_died(self, error: BaseException) -> None:
        with suppress(pykka.ActorDeadError):
            self.actor_ref.tell(ThreadDied(error))
