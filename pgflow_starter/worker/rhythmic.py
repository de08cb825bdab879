"""`RhythmicActor`: an actor that has its own messages sent to it after a while."""

from __future__ import annotations

from functools import partial

from pgflow_starter.clock import Timers
from pgflow_starter.supervision.actor import Actor, tell


class RhythmicActor(Actor):
    """What is timed for an actor that has ended by then is lost with it: its successor begins anew."""

    def __init__(self, timers: Timers) -> None:
        super().__init__()
        self._timers = timers

    def again(self, delay: float, message: object) -> None:
        """Send it to this actor in `delay` seconds."""
        self._timers.after(delay, partial(tell, self.actor_ref, message))
