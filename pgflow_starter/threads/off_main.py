"""`OffMain`: carries the main thread's calls out on other threads, where no signal handler can interrupt them halfway.

A handler may raise at any moment of the main thread: between the taking of a lock and the block that gives it back, or
while a connection is on its way from the pool to its user. So the main thread only hands a call over and waits for its
answer, all in calls of C that are done or not done. A call that is not waited for any more ends by itself.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar

from pgflow_starter.clock import one_wait

T = TypeVar("T")

IDLE_SECONDS = 5.0
"""Seconds after which a thread that has nothing to do ends."""

_numbers = count(1)


class NoThreadError(RuntimeError):
    """There is no thread to be had."""


class OffMain:
    """Called with a call, makes it: on a thread of its own where the caller is the main thread, else right there.

    The threads are kept for the next call while warm. Thread-safe; a signal handler may use it, too.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inboxes: set[_Inbox] = set()  # of all threads
        self._free: SimpleQueue[_Inbox] = SimpleQueue()  # of those that wait
        self._closed = False

    def __call__(self, call: Callable[[], T]) -> T:
        """What the call returns or raises, in its time. Raises NoThreadError when there is no thread to be had."""
        if threading.get_ident() != threading.main_thread().ident:
            return call()
        errand = _Errand(call)
        del call
        try:
            self._free.get_nowait().put(errand)
            waits = not self._closed  # else that thread may have ended
        except Empty:
            waits = False
        if not waits:
            try:
                # Not started from here: what interrupts Thread.start may leave the new thread waiting for ever.
                _thread.start_new_thread(self._start, (errand,))
            except RuntimeError as error:
                raise NoThreadError(str(error)) from error
        answer = errand.answer()
        try:
            if answer[1] is not None:
                raise answer[1]
            return answer[0]  # type: ignore[no-any-return] # the call's own
        finally:
            del answer  # the error knows this frame

    @property
    def idle(self) -> int:
        """How many threads wait for a call. Never waits."""
        return self._free.qsize()

    def close(self) -> None:
        """End the threads, those that are busy when they are done; does not wait. Idempotent. Calls still work."""
        self._closed = True
        for inbox in list(self._inboxes):
            inbox.put(None)

    def _start(self, errand: _Errand) -> None:
        inbox: _Inbox = SimpleQueue()
        inbox.put(errand)  # no argument of the thread's: that would keep it for as long as the thread lives
        name = f"{self._name}-{next(_numbers)}"
        try:
            threading.Thread(target=self._serve, args=(inbox,), name=name, daemon=True).start()
        except BaseException as error:
            errand.answers.put((None, NoThreadError(str(error))))

    def _serve(self, inbox: _Inbox) -> None:
        self._inboxes.add(inbox)
        try:
            while (errand := self._next(inbox)) is not None:
                errand.run()
                errand = None
                self._free.put(inbox)
                if self._closed:
                    return
        finally:
            self._inboxes.discard(inbox)

    def _next(self, inbox: _Inbox) -> _Errand | None:
        while True:
            try:
                return inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                with suppress(Empty):
                    if (free := self._free.get_nowait()) is inbox:
                        return None
                    self._free.put(free)  # another's; ours may be the next, or an errand is on its way here


class _Errand:
    """One call, made once, and where its answer goes. Knows nothing of the call any more when the answer is there."""

    __slots__ = ("_calls", "answers")

    def __init__(self, call: Callable[[], object]) -> None:
        self._calls: list[tuple[Context, Callable[[], object]]] = [(copy_context(), call)]
        self.answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def answer(self) -> tuple[Any, BaseException | None]:
        """Wait for it, on the main thread."""
        while True:
            with suppress(Empty):
                return self.answers.get(timeout=one_wait(None))

    def run(self) -> None:
        """Make the call, unless another thread does."""
        with suppress(IndexError):
            self.answers.put(self._outcome(*self._calls.pop()))

    def _outcome(self, context: Context, call: Callable[[], object]) -> tuple[Any, BaseException | None]:
        try:
            return context.run(call), None
        except BaseException as error:
            return None, error
        finally:
            del call, context


_Inbox: TypeAlias = SimpleQueue[_Errand | None]
