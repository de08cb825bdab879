"""`Answers`: what the database said last, asked of it now and then, one question at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf
from typing import Any, Generic, TypeVar

from pgflow_starter.clock import Clock
from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import PgflowError
from pgflow_starter.web.source import Source

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FRESH_FOR = 1.0
"""Seconds that an answer of the database counts for everybody."""

SHARE = 20
"""Nor is it asked again before so many times as long as the answer took have passed: a twentieth of one connection is
what the page takes at most."""

SOON = 15.0
"""Seconds after which it is asked again where it gave no answer, at the latest: what it suffers from may be over."""

PATIENCE = 1.0
"""Seconds that the one who asks the database waits for a connection, and as long again for each statement's answer;
four for all of them."""

TURN = 0.5
"""Seconds that another question waits for its turn."""

BUSY = "the database is busy with another question of the page; this one is asked with the next look"


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """What was the case `as_of`, None: never seen; `error` says why there is nothing newer."""

    value: V | None = None
    as_of: datetime | None = None
    error: str | None = None
    fresh_until: float | None = None

    def head(self) -> dict[str, Any]:
        """What each answer begins with, JSON-ready."""
        return {"as_of": json_ready(self.as_of), "error": self.error}


class Answers(Generic[K, V]):
    """The answers to one kind of question, the last `kept` of them. Each is asked once a second at most.

    `turn` is shared by all kinds: one question at a time, on one connection and one thread of the server.
    Who asks what is being asked gets the last answer at once. While the database is known to be away it is not asked at
    all. Thread-safe.
    """

    def __init__(
        self, source: Source, clock: Clock, turn: threading.Lock, ask: Callable[[K], V], *, kept: int = 32
    ) -> None:
        self._source = source
        self._clock = clock
        self._turn = turn
        self._ask = ask
        self._kept = kept
        self._last: OrderedDict[K, Answer[V]] = OrderedDict()
        self._asking: set[K] = set()
        self._lock = threading.Lock()
        self._outdated_at = -inf

    def current(self, question: K) -> Answer[V]:
        """The answer now, or what is known of it. One caller at a time waits for 5 s, the others for half a second.

        Raises PgflowError when the starter has ended.
        """
        outage = self._source.status().outage
        with self._lock:
            last: Answer[V] = self._last.get(question) or Answer()
            if outage is not None:
                return replace(last, error=f"the database is away: {one_line(outage.reason)}")
            if self._is_fresh(last) or question in self._asking:
                return last
            self._asking.add(question)
        try:
            if not self._turn.acquire(timeout=TURN):
                return replace(last, error=BUSY)
            try:
                return self._asked(question, last)
            finally:
                self._turn.release()
        finally:
            with self._lock:
                self._asking.discard(question)

    def outdate(self) -> None:
        """Something was changed: what was asked for before counts no longer. Never waits."""
        with self._lock:
            self._outdated_at = self._clock.monotonic()
            self._last.update({question: replace(last, fresh_until=None) for question, last in self._last.items()})

    def _asked(self, question: K, last: Answer[V]) -> Answer[V]:
        began = self._clock.monotonic()
        try:
            answer, longest = Answer(self._ask(question), self._clock.now()), inf
        except PgflowError as error:
            answer, longest = replace(last, error=one_line(str(error)), fresh_until=None), SOON
        now = self._clock.monotonic()
        with self._lock:
            if began >= self._outdated_at:
                answer = replace(answer, fresh_until=now + min(max(FRESH_FOR, SHARE * (now - began)), longest))
            self._last[question] = answer
            self._last.move_to_end(question)
            while len(self._last) > self._kept:
                self._last.popitem(last=False)
        return answer

    def _is_fresh(self, answer: Answer[V]) -> bool:
        return answer.fresh_until is not None and self._clock.monotonic() < answer.fresh_until
