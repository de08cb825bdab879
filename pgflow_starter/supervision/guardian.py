"""`GuardianActor`: brings a plain thread under supervision."""

from __future__ import annotations

from functools import partial
from typing import Any

from pgflow_starter.supervision.actor import Actor, tell
from pgflow_starter.threads.own_thread import Threaded


class GuardianActor(Actor):
    """Has the part's thread started, and dies of what it is told that the thread died of: a restart revives both."""

    def __init__(self, part_name: str, part: Threaded) -> None:
        super().__init__()
        self._part_name = part_name
        self._part = part

    def name(self) -> str:
        return f"pgflow-guardian-{self._part_name}"

    def on_start(self) -> None:
        self._part.revive(partial(tell, self.actor_ref))

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return super().on_receive(message)
