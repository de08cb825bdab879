"""`Link`: between one incarnation of an actor and its supervisor."""

from __future__ import annotations

import contextvars
import logging
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

import pykka

from pgflow_starter.errors import PgflowError

logger = logging.getLogger("pgflow_starter.actors")

_parent_link: contextvars.ContextVar[Link | None] = contextvars.ContextVar("pgflow_parent_link", default=None)


class AbandonedError(PgflowError):
    """The actor did not end in time: its supervisor waits no longer, and it ends as soon as its thread comes back."""


class Linked(Protocol):
    """What a link asks of its actor, on the supervisor's thread: see `Actor`."""

    actor_urn: str

    def cancel(self) -> None:
        """Interrupt what may be waiting."""

    def stop(self) -> None:
        """End, behind the messages that wait."""

    def abandon(self) -> None:
        """Be fenced off."""


class Link:
    """Between one incarnation of a child and its supervisor.

    `on_down(link, reason)` is called on the dying actor's thread; reason None means that it was stopped.
    """

    def __init__(self, on_down: Callable[[Link, BaseException | None], None]) -> None:
        self._on_down = on_down
        self._started: SimpleQueue[BaseException | None] = SimpleQueue()
        self._ended = threading.Event()
        self._actor: weakref.ref[Linked] | None = None
        self._urn = ""
        self._abandoned = False
        self.begun = False
        self.reason: BaseException | None = None
        self.thread: threading.Thread | None = None
        """Its own, where it has one."""

    @staticmethod
    def of_parent() -> Link | None:
        """The link under which the actor that is being made on this thread is started, if any."""
        return _parent_link.get()

    def attach(self, actor: Linked) -> None:
        """On the thread that makes the actor. Raises AbandonedError when the supervisor waits for it no longer."""
        self._actor = weakref.ref(actor)
        self._urn = actor.actor_urn
        # `abandon` sets this and then looks for an actor: one of the two sees the other.
        if self._abandoned:
            msg = f"{actor} is abandoned in its constructor"
            raise AbandonedError(msg)
        # what this actor's constructor starts in turn is not this link's child
        _parent_link.set(None)

    def tell_started(self, error: BaseException | None) -> None:
        """`on_start` has returned, or raised."""
        self._started.put(error)

    def tell_down(self, reason: BaseException | None, started: bool) -> None:
        """The incarnation has ended."""
        self.reason = reason
        self._ended.set()
        try:
            self._on_down(self, reason)
        finally:
            if not started:
                self.tell_started(reason)

    def start(self, start: Callable[[], Any], *, wait: bool = True) -> pykka.ActorRef[Any]:
        """Start an actor under this link and, if `wait`, wait until its `on_start` has returned.

        Raises what `start`, the constructor or `on_start` raised, TypeError for what is no actor of ours. Should the
        link's actor run all the same, it is the caller's to end.
        """
        token = _parent_link.set(self)
        try:
            ref: pykka.ActorRef[Any] = start()
        finally:
            _parent_link.reset(token)
        # It must be the actor that took this link when it was made, and be started.
        if not (isinstance(ref, pykka.ActorRef) and ref.actor_urn == self._urn and self.begun):
            msg = f"a supervised child must be started as a pgflow_starter.supervision.Actor, got {ref!r}"
            raise TypeError(msg)
        error = self._started.get() if wait else None
        if error is not None:
            raise error
        return ref

    @property
    def ended(self) -> bool:
        """Whether the incarnation is gone, or abandoned."""
        return self._ended.is_set()

    @property
    def running(self) -> bool:
        """Whether it was started, and neither it nor its thread has ended."""
        return self.begun and (self.thread is None or self.thread.is_alive()) and not self.ended

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait until the incarnation has ended or is abandoned; False when `timeout` seconds were not enough."""
        return self._ended.wait(timeout)

    def stop(self) -> None:
        """Ask the actor to give up what it is doing, and to end; its thread may ignore it."""
        actor = self._living()
        if actor is None or self.ended:
            return
        for ask in (actor.cancel, actor.stop):
            try:
                ask()
            except pykka.ActorDeadError:
                continue
            except BaseException:
                logger.exception("%s of %s raised", ask.__name__, actor)

    def abandon(self) -> None:
        """Fence the actor off, see `Actor.abandon`; the wait for its end is over."""
        self._abandoned = True
        actor = self._living()
        try:
            if actor is not None:
                actor.abandon()
        except BaseException:
            logger.exception("abandon of %s raised", actor)
        finally:
            self._ended.set()

    def _living(self) -> Linked | None:
        return None if self._actor is None else self._actor()
