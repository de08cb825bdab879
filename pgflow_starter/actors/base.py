"""`Actor`: a pykka actor whose every death is seen, and whose end leaves no ask unanswered.

pykka's own loop lets some deaths pass: one in `on_start` runs no hook, and a `BaseException` stops every actor of the
process. This one ends in a single place, whatever ended it: the inbox is closed, what waits in it is answered, and
the link to the supervisor is told the reason.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

import pykka
from pykka.messages import _ActorStop

logger = logging.getLogger("pgflow_starter.actors")

_parent_link: contextvars.ContextVar[Link | None] = contextvars.ContextVar("pgflow_parent_link", default=None)
_numbers = itertools.count(1)


class Inbox:
    """A mailbox that can be closed: what comes after is answered with ActorDeadError instead of waiting for ever.

    Lock-free, so that a signal handler may send a message while its thread is sending one: `SimpleQueue.put` is
    reentrant, and a put that raced with `close` is found either by it or by the putter's own look at `_closed`.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._closed = False

    def put(self, envelope: Any, /) -> None:
        """Add a message; never blocks."""
        self._queue.put(envelope)
        if self._closed:
            self._answer_all()

    def get(self) -> Any:
        """Wait for the next message."""
        return self._queue.get()

    def empty(self) -> bool:
        """True when nothing waits."""
        return self._queue.empty()

    def close(self) -> None:
        """Answer what waits and whatever comes from now on. Idempotent."""
        self._closed = True
        self._answer_all()

    def _answer_all(self) -> None:
        while True:
            try:
                envelope = self._queue.get_nowait()
            except Empty:
                return
            if envelope.reply_to is None:
                continue
            if isinstance(envelope.message, _ActorStop):
                envelope.reply_to.set(None)
            else:
                error = pykka.ActorDeadError("the actor ended before it took the message")
                envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))


class Link:
    """Between one incarnation of a child and whoever supervises it.

    `on_down(link, reason)` is called on the dying actor's thread; reason None means that it was stopped.
    """

    def __init__(self, on_down: Callable[[Link, BaseException | None], None]) -> None:
        self._on_down = on_down
        self._started: SimpleQueue[BaseException | None] = SimpleQueue()
        self._ended = threading.Event()
        self._actor: weakref.ref[Actor] | None = None
        self.reason: BaseException | None = None
        self.thread: threading.Thread | None = None

    def attach(self, actor: Actor) -> None:
        self._actor = weakref.ref(actor)

    def tell_started(self, error: BaseException | None) -> None:
        self._started.put(error)

    def tell_down(self, reason: BaseException | None) -> None:
        self.reason = reason
        self._ended.set()
        self._on_down(self, reason)

    @property
    def attached(self) -> bool:
        """Whether an actor took this link when it was made."""
        return self._actor is not None

    @property
    def ended(self) -> bool:
        """Whether the incarnation is gone."""
        return self._ended.is_set()

    def wait_started(self) -> BaseException | None:
        """Wait until `on_start` has returned; what it raised, if it did."""
        return self._started.get()

    def wait_ended(self, timeout: float | None) -> bool:
        """Wait until the incarnation's loop has ended; False when `timeout` seconds were not enough."""
        return self._ended.wait(timeout)

    def cancel(self) -> None:
        """Ask the actor to give up what it is doing; its thread may ignore it."""
        actor = self._actor() if self._actor is not None else None
        if actor is not None:
            actor.cancel()


def start_linked(start: Callable[[], Any], link: Link, *, wait: bool = True) -> pykka.ActorRef[Any]:
    """Start an actor under `link` and, if `wait`, wait until its `on_start` has returned.

    Raises what the constructor or `on_start` raised, TypeError for what is no actor of ours.
    """
    token = _parent_link.set(link)
    try:
        ref = start()
    finally:
        _parent_link.reset(token)
    if not isinstance(ref, pykka.ActorRef) or not link.attached:
        msg = f"a supervised child must be started as a pgflow_starter.supervision.Actor, got {ref!r}"
        raise TypeError(msg)
    error = link.wait_started() if wait else None
    if error is not None:
        raise error
    return ref


class Actor(pykka.ThreadingActor):
    """Base of all supervised actors. Runs on a daemon thread named after `thread_name`.

    As in pykka, an exception in a told message ends the actor and one in an ask goes to the asker alone; but a
    `BaseException` ends only this actor, and its asker is told.
    """

    use_daemon_thread = True
    thread_name: ClassVar[str] = "pgflow-actor"
    registered: ClassVar[bool] = False
    """Whether the actor is in pykka's process-wide `ActorRegistry`, where any library's `stop_all()` reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self._link = _parent_link.get()
        if self._link is not None:
            self._link.attach(self)
            # what this constructor starts in turn is not this link's child
            _parent_link.set(None)

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Inbox()

    def cancel(self) -> None:
        """On the supervisor's thread, when this actor is to end: interrupt what may be waiting. Must not block."""

    def name(self) -> str:
        """What the actor's thread is called."""
        return self.thread_name

    def _start_actor_loop(self) -> None:
        thread = threading.Thread(target=self._actor_loop, name=f"{self.name()}-{next(_numbers)}", daemon=True)
        if not self.registered:
            pykka.ActorRegistry.unregister(self.actor_ref)
        if self._link is not None:
            self._link.thread = thread
        try:
            thread.start()
        except BaseException:
            pykka.ActorRegistry.unregister(self.actor_ref)
            self.actor_stopped.set()
            self.actor_inbox.close()  # type: ignore[attr-defined]
            raise

    def _actor_loop(self) -> None:
        reason: BaseException | None = None
        started = False
        try:
            self.on_start()
            started = True
            self._tell_started(None)
            while not self.actor_stopped.is_set():
                self._serve(self.actor_inbox.get())
        except BaseException as error:
            reason = error
            logger.error("%s died: %s: %s", self, type(error).__name__, error, exc_info=started and error)
        finally:
            self._end(reason, started)

    def _serve(self, envelope: Any) -> None:
        reply_to = envelope.reply_to
        try:
            response = self._handle_receive(envelope.message)
        except Exception as error:
            if reply_to is None:
                raise
            reply_to.set_exception((type(error), error, error.__traceback__))
        except BaseException as error:
            if reply_to is not None:
                reply_to.set_exception((type(error), error, error.__traceback__))
            raise
        else:
            if reply_to is not None:
                reply_to.set(response)

    def _end(self, reason: BaseException | None, started: bool) -> None:
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()
        self.actor_inbox.close()  # type: ignore[attr-defined]
        if reason is not None and started:
            try:
                self.on_failure(type(reason), reason, reason.__traceback__)
            except BaseException:
                logger.exception("on_failure of %s raised", self)
        if self._link is not None:
            if not started:
                self._link.tell_started(reason)
            self._link.tell_down(reason)

    def _tell_started(self, error: BaseException | None) -> None:
        if self._link is not None:
            self._link.tell_started(error)
