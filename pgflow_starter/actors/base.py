"""`Actor`: a pykka actor whose every death is seen, and whose end leaves no ask unanswered.

pykka's own loop lets some deaths pass: one in `on_start` runs no hook, and a `BaseException` stops every actor of the
process. This one ends in a single place, whatever ended it: the inbox is closed, what waits in it is answered, and
the link to the supervisor is told the reason. One that does not end can be fenced off: see `Actor.abandon`.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ClassVar, Self

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from pgflow_starter.actors.inbox import Answer, Inbox, fail, reply
from pgflow_starter.errors import PgflowError

logger = logging.getLogger("pgflow_starter.actors")

_parent_link: contextvars.ContextVar[Link | None] = contextvars.ContextVar("pgflow_parent_link", default=None)
_numbers = itertools.count(1)


class AbandonedError(PgflowError):
    """The actor did not end in time: nobody waits for it any more, and it ends as soon as its thread comes back."""


class Link:
    """Between one incarnation of a child and whoever supervises it.

    `on_down(link, reason)` is called on the dying actor's thread; reason None means that it was stopped.
    """

    def __init__(self, on_down: Callable[[Link, BaseException | None], None]) -> None:
        self._on_down = on_down
        self._started: SimpleQueue[BaseException | None] = SimpleQueue()
        self._ended = threading.Event()
        self._actor: weakref.ref[Actor] | None = None
        self._urn = ""
        self._abandoned = False
        self.reason: BaseException | None = None
        self.thread: threading.Thread | None = None

    def attach(self, actor: Actor) -> None:
        self._actor = weakref.ref(actor)
        self._urn = actor.actor_urn
        # `abandon` sets this and then looks for an actor: one of the two sees the other.
        if self._abandoned:
            msg = f"{actor} is abandoned in its constructor"
            raise AbandonedError(msg)

    def tell_started(self, error: BaseException | None) -> None:
        self._started.put(error)

    def tell_down(self, reason: BaseException | None, started: bool) -> None:
        self.reason = reason
        self._ended.set()
        try:
            self._on_down(self, reason)
        finally:
            if not started:
                self.tell_started(reason)

    def leads_to(self, ref: object) -> bool:
        """Whether `ref` is that of the actor that took this link when it was made, and that actor was started."""
        return isinstance(ref, pykka.ActorRef) and ref.actor_urn == self._urn and self.thread is not None

    @property
    def ended(self) -> bool:
        """Whether the incarnation is gone, or abandoned."""
        return self._ended.is_set()

    @property
    def running(self) -> bool:
        """Whether there is a thread that has not ended."""
        return self.thread is not None and self.thread.is_alive() and not self.ended

    def wait_started(self) -> BaseException | None:
        """Wait until `on_start` has returned; what it raised, if it did: then the incarnation has ended, too."""
        return self._started.get()

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait until the incarnation has ended or is abandoned; False when `timeout` seconds were not enough."""
        return self._ended.wait(timeout)

    def stop(self) -> None:
        """Ask the actor to give up what it is doing, and to end; its thread may ignore it."""
        actor = self._living()
        if actor is not None and not self.ended:
            try:
                actor.cancel()
            except BaseException:
                logger.exception("cancel of %s raised", actor)
            with contextlib.suppress(pykka.ActorDeadError):
                actor.stop()

    def abandon(self) -> None:
        """Fence the actor off, see `Actor.abandon`; nobody waits for its end any more."""
        self._abandoned = True
        actor = self._living()
        if actor is not None:
            actor.abandon()
        self._ended.set()

    def _living(self) -> Actor | None:
        return None if self._actor is None else self._actor()


def start_linked(start: Callable[[], Any], link: Link, *, wait: bool = True) -> pykka.ActorRef[Any]:
    """Start an actor under `link` and, if `wait`, wait until its `on_start` has returned.

    Raises what `start`, the constructor or `on_start` raised, TypeError for what is no actor of ours. Should the link's
    actor run all the same, it is the caller's to end.
    """
    token = _parent_link.set(link)
    try:
        ref = start()
    finally:
        _parent_link.reset(token)
    if not link.leads_to(ref):
        msg = f"a supervised child must be started as a pgflow_starter.supervision.Actor, got {ref!r}"
        raise TypeError(msg)
    error = link.wait_started() if wait else None
    if error is not None:
        raise error
    return ref  # type: ignore[no-any-return]


class Actor(pykka.ThreadingActor):
    """Base of all supervised actors. Runs on a daemon thread named after `thread_name`.

    As in pykka, an exception in a told message ends the actor and one in an ask goes to the asker alone; but a
    `BaseException` ends only this actor, and its asker is told. An exception in `on_stop` is a death like any other.
    """

    use_daemon_thread = True
    thread_name: ClassVar[str] = "pgflow-actor"
    registered: ClassVar[bool] = False
    """Whether the actor is in pykka's process-wide `ActorRegistry`, where any library's `stop_all()` reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self._asker: pykka.Future[Any] | None = None
        self._link = _parent_link.get()
        if self._link is not None:
            self._link.attach(self)
            # what this constructor starts in turn is not this link's child
            _parent_link.set(None)

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """As in pykka. Raises what the constructor raises, RuntimeError when there is no thread to be had."""
        actor = cls(*args, **kwargs)
        actor._start_actor_loop()
        return actor.actor_ref

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Inbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return Answer()

    def cancel(self) -> None:
        """On the supervisor's thread, when this actor is to end: interrupt what may be waiting. Must not block."""

    def abandon(self) -> None:
        """On the supervisor's thread, when this actor did not end in time: fence it off. Does not block.

        It takes no more messages and whoever waits for an answer gets one. When its thread comes back, the actor dies
        of an AbandonedError: `on_failure` runs, `on_stop` does not.
        """
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()
        self.actor_inbox.close(ended=True)  # type: ignore[attr-defined]
        self.actor_inbox.put(Envelope(_ActorStop()))  # for a loop that had not looked up yet
        fail(self._asker, pykka.Timeout(f"{self} is abandoned: whether it carries the message out is unknown"))
        self._tell_started(AbandonedError(f"{self} is abandoned in its on_start"))

    def name(self) -> str:
        """What the actor's thread is called."""
        return self.thread_name

    def _start_actor_loop(self) -> None:
        try:
            thread = threading.Thread(target=self._actor_loop, name=f"{self.name()}-{next(_numbers)}", daemon=True)
            if self._link is not None:
                self._link.thread = thread
            if self.registered:
                pykka.ActorRegistry.register(self.actor_ref)
            thread.start()
        except BaseException:
            self.abandon()  # a signal's exception may even come when the thread runs already
            raise

    def _actor_loop(self) -> None:
        reason: BaseException | None = None
        started = False
        try:
            self._check_not_abandoned()
            self.on_start()
            started = True
            self._tell_started(None)
            while (envelope := self._next()) is not None:
                self._serve(envelope)
            self._check_not_abandoned()
            self._stop()
        except BaseException as error:
            reason = error
            logger.error("%s died: %s", self, told(error), exc_info=started and error)
        finally:
            self._end(reason, started)

    def _check_not_abandoned(self) -> None:
        if self.actor_stopped.is_set():
            msg = f"{self} is abandoned"
            raise AbandonedError(msg)

    def _next(self) -> Envelope[Any] | None:
        """Wait for the next message to carry out; None when the actor is to end."""
        envelope: Envelope[Any] = self.actor_inbox.get()
        if isinstance(envelope.message, _ActorStop) or self.actor_stopped.is_set():
            self.actor_inbox.put(envelope)  # answered with the rest
            return None
        return envelope

    def _serve(self, envelope: Envelope[Any]) -> None:
        asker = self._asker = envelope.reply_to
        try:
            response = self._handle_receive(envelope.message)
        except Exception as error:
            if asker is None:
                raise
            fail(asker, error)
        except BaseException as error:
            fail(asker, error)
            raise
        else:
            reply(asker, response)
        finally:
            self._asker = None

    def _stop(self) -> None:
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()
        self.actor_inbox.close(ended=False)  # type: ignore[attr-defined]
        self.on_stop()

    def _end(self, reason: BaseException | None, started: bool) -> None:
        try:
            pykka.ActorRegistry.unregister(self.actor_ref)
            self.actor_stopped.set()
            self.actor_inbox.close(ended=False)  # type: ignore[attr-defined]
            if reason is not None and started:
                self._fail(reason)
        finally:
            self.actor_inbox.close(ended=True)  # type: ignore[attr-defined]
            if self._link is not None:
                self._link.tell_down(reason, started)

    def _fail(self, reason: BaseException) -> None:
        try:
            self.on_failure(type(reason), reason, reason.__traceback__)
        except BaseException:
            logger.exception("on_failure of %s raised", self)

    def _tell_started(self, error: BaseException | None) -> None:
        if self._link is not None:
            self._link.tell_started(error)


def told(error: BaseException) -> str:
    """An exception's class and text; the class alone where its text cannot be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
