"""`Actor`: a pykka actor whose every death is seen, and whose end leaves no ask unanswered.

pykka's own loop lets some deaths pass: one in `on_start` runs no hook, and a `BaseException` stops every actor of the
process. This one ends in a single place, whatever ended it: the inbox is closed, what waits in it is answered, and
the link to the supervisor is told the reason. One that does not end can be fenced off: see `Actor.abandon`.
"""

from __future__ import annotations

import itertools
import logging
import threading
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, ClassVar, Self

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from pgflow_starter.core.text import text_of
from pgflow_starter.errors import PgflowError
from pgflow_starter.supervision.inbox import Answer, Inbox, fail, reply
from pgflow_starter.supervision.link import AbandonedError, Link
from pgflow_starter.threads.cache import call_logged

logger = logging.getLogger("pgflow_starter.actors")

_numbers = itertools.count(1)


class Actor(pykka.ThreadingActor):
    """Base of all supervised actors. Runs on a daemon thread named after `thread_name`.

    As in pykka, an exception in a told message ends the actor and one in an ask goes to the asker alone; but a
    `BaseException` ends only this actor, and its asker is told. An exception in `on_stop` is a death like any other.
    """

    actor_inbox: Inbox
    use_daemon_thread = True
    thread_name: ClassVar[str] = "pgflow-actor"
    registered: ClassVar[bool] = False
    """Whether the actor is in pykka's process-wide `ActorRegistry`, where any library's `stop_all()` reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self._asker: pykka.Future[Any] | None = None
        self._link = Link.of_parent()
        if self._link is not None:
            self._link.attach(self)  # last: from here on it may be abandoned

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """As in pykka. Raises what the constructor raises, RuntimeError when there is no thread to be had."""
        actor = cls(*args, **kwargs)
        actor._start_actor_loop()
        return actor.actor_ref

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return Answer()

    def cancel(self) -> None:
        """On the supervisor's thread, when this actor is to end: interrupt what may be waiting. Must not block."""

    def abandon(self) -> None:
        """On the supervisor's thread, when this actor did not end in time: fence it off. Does not block.

        It takes no more messages, and an asker that waits gets an answer. When its thread comes back, the actor dies
        of an AbandonedError: `on_failure` runs, `on_stop` does not.
        """
        self._unregister()
        self.actor_stopped.set()
        self.actor_inbox.close(ended=True)
        self.actor_inbox.put(Envelope(_ActorStop()))  # for a loop that had not looked up yet
        fail(self._asker, pykka.Timeout(f"{self} is abandoned: whether it carries the message out is unknown"))
        self._tell_started(AbandonedError(f"{self} is abandoned in its on_start"))

    def name(self) -> str:
        """What the actor's thread is called."""
        return self.thread_name

    def _start_actor_loop(self) -> None:
        try:
            name = f"{self.name()}-{next(_numbers)}"
            # A context of its own: where Python lets threads inherit their maker's, it would be there for ever.
            thread = threading.Thread(target=Context().run, args=(self._actor_loop,), name=name, daemon=True)
            if self._link is not None:
                self._link.begun, self._link.thread = True, thread
            if self.registered:
                pykka.ActorRegistry.register(self.actor_ref)
            thread.start()
        except BaseException:
            self.abandon()  # a signal's exception may even come when the thread runs already
            raise

    def _actor_loop(self) -> None:
        if not self._set_out():
            return
        try:
            while (envelope := self._accept(self.actor_inbox.get())) is not None:
                self._serve(envelope)
        except BaseException as error:
            self._die(error, started=True)
        else:
            self._leave()

    def _set_out(self) -> bool:
        try:
            self._check_not_abandoned()
            self.on_start()
            self._tell_started(None)
        except BaseException as error:
            self._die(error, started=False)
            return False
        return True

    def _leave(self) -> None:
        try:
            self._check_not_abandoned()
            self._stop()
        except BaseException as error:
            self._die(error, started=True)
        else:
            self._end(None, started=True)

    def _die(self, error: BaseException, started: bool) -> None:
        try:
            # What caused one of ours may be the driver's error, and no password was taken out of its words.
            traced = started and not isinstance(error, PgflowError)
            logger.error("%s died: %s", self, described(error), exc_info=error if traced else None)
        finally:
            self._end(error, started)

    def _check_not_abandoned(self) -> None:
        if self.actor_stopped.is_set():
            msg = f"{self} is abandoned"
            raise AbandonedError(msg)

    def _accept(self, envelope: Envelope[Any]) -> Envelope[Any] | None:
        """The message, if it is to be carried out; None when the actor is to end."""
        if not isinstance(envelope.message, _ActorStop):
            # `abandon` sets actor_stopped and then looks for an asker: one of the two sees the other.
            self._asker = envelope.reply_to
            if not self.actor_stopped.is_set():
                return envelope
        self.actor_inbox.put(envelope)  # answered with the rest
        return None

    def _serve(self, envelope: Envelope[Any]) -> None:
        asker = envelope.reply_to
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
        self._unregister()
        self.actor_stopped.set()
        self.actor_inbox.close(ended=False)
        self.on_stop()

    def _end(self, reason: BaseException | None, started: bool) -> None:
        try:
            if reason is not None:  # else it was done before `on_stop`
                self._unregister()
            self.actor_stopped.set()
            self.actor_inbox.close(ended=False)
            if reason is not None and started:
                failing = partial(self.on_failure, type(reason), reason, reason.__traceback__)
                call_logged(failing, logger, f"on_failure of {self}")
        finally:
            self.actor_inbox.close(ended=True)
            if self._link is not None:
                self._link.tell_down(reason, started)

    def _unregister(self) -> None:
        if self.registered:  # the registry is a list: with thousands in it looking for one takes time
            pykka.ActorRegistry.unregister(self.actor_ref)

    def _tell_started(self, error: BaseException | None) -> None:
        if self._link is not None:
            self._link.tell_started(error)


def tell(ref: pykka.ActorRef[Any] | None, message: object) -> None:
    """Send the message to the actor; it is lost on one that has ended, and where there is none."""
    if ref is not None:
        with suppress(pykka.ActorDeadError):
            ref.tell(message)


def described(error: BaseException) -> str:
    """An exception's class and text."""
    return f"{type(error).__name__}: {text_of(error)}"
