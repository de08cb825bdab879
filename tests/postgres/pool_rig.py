"""A pool of three connections, what it made, and how connecting fails."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.connection import Session, server_limits
from pgflow_starter.postgres.connections.pool import Pool

WAIT = 20.0
SOON = 0.05


class Ahead(SystemClock):
    """The system's, so many seconds ahead."""

    seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.seconds


class World:
    """A pool of three, what it made, and how connecting fails."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.clock = Ahead()
        self.made: list[Session] = []
        self.refusing = False
        self.connecting: Callable[[], object] = lambda: None
        self.failures: list[BaseException] = []
        self.budget = BackendBudget(3, freed=self._freed)
        self.dead: list[Session] = []
        self.found_dead: Callable[[Session], object] = self.dead.append
        self.pools: list[Pool] = []
        self.pool = self.another()

    def another(self, reserved_for_urgent: int = 0) -> Pool:
        """A pool that shares the budget."""
        self.budget.reserved_for_urgent = reserved_for_urgent
        pool = Pool(
            self._connect,
            budget=self.budget,
            clock=self.clock,
            failed=self.failures.append,
            found_dead=self._ended,
        )
        self.pools.append(pool)
        return pool

    def _ended(self, conn: Session) -> None:
        self.found_dead(conn)

    def _freed(self) -> None:
        self.pool.look_again()

    def _connect(self) -> Session:
        self.connecting()
        if self.refusing:
            raise psycopg.OperationalError("refused")
        self.made.append(Session.connect(self.conninfo, autocommit=True))
        self.made[-1].set_up(server_limits(15))
        return self.made[-1]

    def get(self, *, urgent: bool = False) -> Session:
        conn = self.pool.get(WAIT, urgent=urgent)
        assert conn is not None
        return conn

    def get_none(self) -> DatabaseError:
        """What is said where none comes free."""
        with pytest.raises(DatabaseError, match="no connection came free") as caught:
            self.pool.get(SOON)
        return caught.value

    def take(self, number: int) -> list[Session]:
        return [self.get() for _ in range(number)]

    @property
    def open(self) -> int:
        return sum(not conn.closed for conn in self.made)


def asking(pool: Pool, served: list[Session | None], *, urgent: bool = False) -> threading.Thread:
    """Somebody who asks for a connection, on a thread."""
    thread = threading.Thread(target=lambda: served.append(pool.get(WAIT, urgent=urgent)))
    thread.start()
    return thread
