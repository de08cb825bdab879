"""`DispatchedActor`: an actor that has no thread of its own, for actors of which there are many."""

from __future__ import annotations

import threading
from contextvars import Context

import pykka

from pgflow_starter.supervision.actor import Actor
from pgflow_starter.threads.dispatcher import Dispatcher


class DispatchedActor(Actor):
    """Its messages are carried out on the dispatcher's threads, one at a time and in order, its `on_start` on the
    thread that starts it. None of them may wait for long; `on_stop` may where the actor `stops_slowly`.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        # Held by the thread that carries out its messages; never given back after its end.
        self._turn = threading.Lock()
        self._turn.acquire()
        self._context = Context()
        super().__init__()
        self.actor_inbox.arrived = self._summon

    @property
    def stops_slowly(self) -> bool:
        """Whether `on_stop` needs a thread, for it may wait; asked once, when the actor is about to end."""
        return False

    def _start_actor_loop(self) -> None:
        try:
            if self.registered:
                pykka.ActorRegistry.register(self.actor_ref)
            if self._link is not None:
                self._link.begun = True
        except BaseException:
            self.abandon()
            raise
        if self._context.run(self._set_out):
            self._yield_turn()

    def _summon(self) -> None:
        """A message came. The thread that has the turn looks for more after giving it back: none is overlooked."""
        self._dispatcher.put(self._take_turn)

    def _yield_turn(self) -> None:
        self._turn.release()
        if not self.actor_inbox.empty():
            self._summon()

    def _take_turn(self) -> None:
        if self._turn.acquire(blocking=False) and self._context.run(self._serve_all):
            self._yield_turn()

    def _serve_all(self) -> bool:
        """The messages that wait; False when the actor has ended, or is about to."""
        try:
            while (envelope := self.actor_inbox.take()) is not None:
                if self._accept(envelope) is None:
                    if self.stops_slowly:
                        self._dispatcher.put_slow(self._leave)
                    else:
                        self._leave()
                    return False
                self._serve(envelope)
        except BaseException as error:
            self._die(error, started=True)
            return False
        return True
