"""`Tally`: when handlers began. For the programs of this folder, which run where none of our packages is installed."""

from __future__ import annotations

import json
import statistics
import threading
import time


class Tally:
    """The first and the last of many jobs, then one job at a time."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._handled = 0
        self._first = self._last = 0.0
        self._latencies: list[float] = []
        self._asked: float | None = None

    @property
    def done(self) -> bool:
        """Whether all of the many have been handled."""
        return self._handled >= self._jobs

    @property
    def answered(self) -> bool:
        """Whether the single job that was sent has begun."""
        return self._asked is None

    def handled(self) -> None:
        """A handler runs."""
        now = time.perf_counter()
        with self._lock:
            self._count(now)

    def _count(self, now: float) -> None:
        if self._asked is not None:
            self._latencies.append(now - self._asked)
            self._asked = None
        elif not self.done:
            self._first = self._first or now
            self._last = now
            self._handled += 1

    def asks(self) -> None:
        """A single job is about to be sent."""
        self._asked = time.perf_counter()

    def tell(self) -> None:
        """Print jobs a second and the latencies in milliseconds, as JSON."""
        hundredths = statistics.quantiles(self._latencies, n=100)
        rate = self._jobs / (self._last - self._first)
        print(json.dumps({"rate": rate, "p50": hundredths[49] * 1e3, "p99": hundredths[98] * 1e3}), flush=True)
