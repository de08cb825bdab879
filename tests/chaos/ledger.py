"""`Ledger`: what was asked for, how often each task was handled, and when something was broken."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

Key = tuple[UUID, str, int]

AFTERMATH = 20.0
"""Seconds after a fault in which a task may still run once more for it: as long as it takes to find a silent peer."""


class Ledger:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handled: defaultdict[Key, list[tuple[float, str]]] = defaultdict(list)
        self._returned: set[UUID] = set()
        self._forgotten: set[UUID] = set()
        self._faults: list[tuple[str, float, float]] = []
        self.counts: Counter[str] = Counter()

    def handled(self, key: Key, at: float | None = None, by: str = "") -> None:
        """A handler of a starter `by` name began with this task, now or then, on the machine's monotonic clock."""
        with self._lock:
            self._handled[key].append((time.monotonic() if at is None else at, by))

    def returned(self, run_id: UUID) -> None:
        """A client's call returned this run."""
        with self._lock:
            self._returned.add(run_id)

    def forget_returned(self) -> None:
        """What was sent so far is gone, on purpose."""
        with self._lock:
            self._returned.clear()

    def forget(self, run_ids: Collection[UUID]) -> None:
        """These runs may be gone, or fail, on purpose; also those that a client's call is yet to return."""
        with self._lock:
            self._forgotten.update(run_ids)

    def forgotten(self) -> set[UUID]:
        """The runs that may be gone or fail."""
        with self._lock:
            return set(self._forgotten)

    def count(self, what: str, number: int = 1) -> None:
        """So many more of these."""
        with self._lock:
            self.counts[what] += number

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Around a fault."""
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._faults.append((name, began, time.monotonic()))

    def faults(self) -> Counter[str]:
        """How many of each."""
        with self._lock:
            return Counter(name for name, _, _ in self._faults)

    def missing(self, completed: set[UUID]) -> set[UUID]:
        """Runs that a client was given and that are not among those."""
        with self._lock:
            return self._returned - self._forgotten - completed

    def times_handled(self, key: Key) -> int:
        """How often a handler began with the task."""
        with self._lock:
            return len(self._handled.get(key, ()))

    def begun(self) -> dict[UUID, list[tuple[float, str]]]:
        """When a handler began with a task of each run, and of which starter."""
        begun: defaultdict[UUID, list[tuple[float, str]]] = defaultdict(list)
        with self._lock:
            for (run_id, _, _), times in self._handled.items():
                begun[run_id] += times
        return begun

    def taken_over(self) -> int:
        """Tasks that one starter began with and another began with again."""
        with self._lock:
            return sum(len({by for _, by in begun}) > 1 for begun in self._handled.values())

    def repeated(self) -> tuple[int, int]:
        """Tasks that were handled more than once; and those of them that no fault can account for."""
        with self._lock:
            repeated = [sorted(at for at, _ in begun) for begun in self._handled.values() if len(begun) > 1]
            faults = list(self._faults)
        unexplained = [
            times
            for times in repeated
            if not any(began <= times[-1] and ended + AFTERMATH >= times[0] for _, began, ended in faults)
        ]
        return len(repeated), len(unexplained)
