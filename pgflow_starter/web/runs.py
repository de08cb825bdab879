"""`RecentRuns`: the runs that began last, asked of the database now and then."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgflow_starter.clock import Clock
from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.core.runs import RunSummary
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import PgflowError
from pgflow_starter.web.source import Source

LIMIT = 20
FRESH_FOR = 1.0
"""Seconds that an answer of the database counts for everybody."""

PATIENCE = 1.0
"""Seconds that the one who asks the database waits for a connection, and as long again for the answer."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The runs as they were `as_of`, None: never seen; `error` says why there is nothing newer."""

    runs: Sequence[RunSummary] = ()
    as_of: datetime | None = None
    error: str | None = None
    asked_at: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data, as `runs.schema.json` describes it."""
        return {
            "as_of": json_ready(self.as_of),
            "error": self.error,
            "runs": [json_ready(r) for r in self.runs],
        }


class RecentRuns:
    """Asks for the runs, one question at a time and at most one a second; the others get the last answer. Thread-safe.

    While the database is known to be away it is not asked at all.
    """

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._asking = threading.Lock()
        self._last = Listing()

    def current(self) -> Listing:
        """The runs now, or what is known of them. About 2 s at most, for one caller at a time; nobody else waits.

        Raises PgflowError when the starter has ended.
        """
        outage, client = self._source.status().outage, self._source.client
        last = self._last
        if outage is not None:
            return Listing(last.runs, last.as_of, f"the database is away: {one_line(outage.reason)}")
        if self._is_fresh(last) or not self._asking.acquire(blocking=False):
            return last
        try:
            if self._is_fresh(self._last):
                return self._last
            try:
                runs = client.recent_runs(LIMIT, patience=PATIENCE)
                self._last = Listing(runs, self._clock.now(), None, self._clock.monotonic())
            except PgflowError as error:
                self._last = Listing(last.runs, last.as_of, one_line(str(error)), self._clock.monotonic())
            return self._last
        finally:
            self._asking.release()

    def _is_fresh(self, listing: Listing) -> bool:
        return listing.asked_at is not None and self._clock.monotonic() - listing.asked_at < FRESH_FOR
