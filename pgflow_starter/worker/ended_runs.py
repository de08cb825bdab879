"""`EndedRuns`: runs that have ended are told to who watches, by one thread at a time that comes when there are some.

Telling may hang in an exporter: those who write outcomes never do it themselves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from pgflow_starter.core.runs import EndedRun

MOST = 10_000
"""Runs that wait to be told of while somebody hangs; older ones are told of no more."""


class EndedRuns:
    """`tell(runs)` may take its time; `run(call)` has another thread make the call. Thread-safe."""

    def __init__(
        self, tell: Callable[[Sequence[EndedRun]], object], run: Callable[[Callable[[], object]], object]
    ) -> None:
        self._tell = tell
        self._run = run
        self._waiting: deque[EndedRun] = deque(maxlen=MOST)
        self._telling = threading.Lock()
        self._called = False

    def add(self, runs: Sequence[EndedRun]) -> None:
        """These have ended. Does not wait."""
        self._waiting.extend(runs)
        # Who is called may be long in coming: each call that found no thread is made again and again.
        if runs and not (self._called or self._telling.locked()):
            self._called = True
            self._run(self._come)

    def _come(self) -> None:
        self._called = False
        # Looked at again after each release: runs put in while somebody was leaving must not wait for the next.
        while self._waiting and self._telling.acquire(blocking=False):
            try:
                self._tell([self._waiting.popleft() for _ in range(len(self._waiting))])
            finally:
                self._telling.release()
