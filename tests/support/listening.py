"""Listening on a thread that waits until LISTEN is in force."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

from pgflow_starter.postgres.listening.listener import Listener

WAIT = 10.0


def listen_now(listener: Listener, queue: str, wake: Callable[[], object]) -> None:
    """Return once notifications of the queue call `wake`; raises what keeps them from it."""
    answers: SimpleQueue[BaseException | None] = SimpleQueue()
    listener.listen(queue, wake, answers.put)
    error = answers.get(timeout=WAIT)
    if error is not None:
        raise error
