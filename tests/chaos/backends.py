"""`Backends`: how many sessions each of the starters has on the server, by the server's own account."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.support.waiting import eventually

OURS = "chaos-"
"""What the application names of the starters' connections begin with."""

LOOK_EVERY = 0.25
GONE_WITHIN = 5.0
_COUNT = """
select application_name, count(*) from pg_stat_activity
where datname = current_database() and starts_with(application_name, %s) group by application_name
"""


class Backends:
    """Looks a few times a second, past the proxy, while in the block; to be left when all have stopped."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="backends")
        self.most = 0
        """Of one starter at one moment."""
        self.left = -1
        """Of all, when they had stopped and some time had passed; -1: not known."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        with suppress(psycopg.Error), self._connected() as admin:
            with suppress(AssertionError):
                eventually(lambda: not _counted(admin), GONE_WITHIN)
            self.left = sum(_counted(admin).values())

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self._conninfo, autocommit=True, connect_timeout=2)

    def _look(self) -> None:
        while not self._end.wait(LOOK_EVERY):
            with suppress(psycopg.Error), self._connected() as admin:  # away, or its session terminated
                while not self._end.wait(LOOK_EVERY):
                    self.most = max(self.most, *_counted(admin).values(), 0)


def _counted(admin: psycopg.Connection[tuple[Any, ...]]) -> dict[str, int]:
    return dict(admin.execute(_COUNT, (OURS,)).fetchall())
