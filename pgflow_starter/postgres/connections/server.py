"""`Server`: the one at a connection string. It is looked at whether it can be worked with, and connected to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import psycopg

from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.connection import Backend, Session, gated, server_limits
from pgflow_starter.postgres.connections.conninfo import (
    CONNECT_TIMEOUT,
    Redactor,
    answer_limit,
    connect_options,
    of_no_use,
    refuse_unreadable,
)
from pgflow_starter.postgres.connections.errors import translate
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.time_limits import TimeLimit, TimeLimits

logger = logging.getLogger("pgflow_starter.database")

PREPARE_AFTER = 2
"""Executions after which a statement is prepared, where the server itself is at the other end."""

SHUTDOWN_STATES = ("57P01", "57P02", "57P03")

END_PAUSES = (0.0, 0.005, 0.02, 0.05)
"""Seconds before each look whether backends that were to end have: a probe waits no longer for them."""

_PROBE = "select current_setting('transaction_read_only'), pg_backend_pid()"
# Those of them that are there still, each told to end: that is a request, and somebody's lock does not keep it waiting.
_END_BACKENDS = """
select s.pid, o.began, case when o.began <> '' then pg_terminate_backend(s.pid) end
from unnest(%s::int[], %s::text[]) as o (pid, began)
join pg_stat_activity s on s.pid = o.pid and coalesce(extract(epoch from s.backend_start)::text, '') = o.began
"""


class Server:
    """Thread-safe. `closed_within(seconds)` waits that long, and is at once true when nothing is wanted any more."""

    may_prepare = True
    """False since it turned out that statements do not stay prepared."""
    database_name = ""
    """As the last look found it."""

    def __init__(
        self,
        conninfo: str,
        *,
        limits: TimeLimits,
        pace: Pace,
        budget: BackendBudget,
        closed_within: Callable[[float], bool],
    ) -> None:
        self.redact = Redactor(conninfo)
        self.answer_limit = answer_limit(conninfo)
        self.usual = server_limits(self.answer_limit)
        self._conninfo = conninfo
        self._options = connect_options(conninfo)
        self._limits = limits
        self._pace = pace
        self._budget = budget
        self._closed_within = closed_within
        self._gated = gated(lambda: not closed_within(0.0))
        self._prepare_threshold: int | None = None
        self._direct = False
        self._said = SaidOnce()

    def sessions(self, wanted: Callable[[], bool]) -> Callable[[], Session]:
        """What connects, as long as that is `wanted`, to the server as the last look found it. Raises anything."""
        wanted_sessions, direct = gated(wanted), self._direct
        options = {**self._options, "prepare_threshold": self._prepare_threshold}

        def connect() -> Session:
            self._pace.reserve()  # waits for nobody, but whoever comes after it does while the server does not answer
            conn: Session | None = None
            try:
                conn = wanted_sessions.connect(self._conninfo, **options)
                with self._limits.on(conn, CONNECT_TIMEOUT):
                    conn.set_up(self.usual if direct else None)
            except BaseException as error:
                if conn is not None:
                    conn.close()
                # The probe tells of psycopg's, and may find nothing wrong with these.
                kind = type(error).__name__
                if not isinstance(error, psycopg.Error) and self._said.note(kind):
                    logger.warning("connecting failed: %s: %s", kind, translate(error, self.redact))
                raise
            self._said.clear()
            self._pace.give_back()
            return conn

        return connect

    def probe(self) -> DatabaseError | None:
        """Connect to it; why it cannot be worked with, or None where it can. Raises nothing."""
        error = self._look()
        # Somebody ended that very connection: the server is there, unless the next one says otherwise.
        return self._look() if error is not None and error.once_more else error

    def _look(self) -> DatabaseError | None:
        limit: TimeLimit | None = None
        try:
            refuse_unreadable(self._conninfo)
            with (
                self._gated.connect(self._conninfo, **self._options) as conn,
                self._limits.on(conn, CONNECT_TIMEOUT) as limit,
            ):
                conn.limit_by(server_limits(CONNECT_TIMEOUT))
                read_only, pid = conn.execute(_PROBE).fetchone() or (None, None)
                self.database_name = conn.info.dbname
                # A pooler makes the pid up. Prepared statements are session state, which it may not keep.
                self._direct = pid == conn.info.backend_pid
                self._prepare_threshold = PREPARE_AFTER if self._direct and self.may_prepare else None
                self._end_backends(conn)
                # Read-only after a failover: it answers, but is not the one to work with.
                if read_only == "on":
                    return DatabaseError("the server is read-only (a standby)", sqlstate="25006", connection_lost=True)
        except SetupError as error:
            return of_no_use(error)
        except Exception as raised:
            told = translate(raised, self.redact)
            cut = limit is not None and not limit.given_up and told.connection_lost
            told.once_more = cut and told.sqlstate in (*SHUTDOWN_STATES, None)  # its last words may get lost
            return told
        return None

    def _end_backends(self, conn: Session) -> None:
        """Have the server end the backends of connections that were given up, and see which have ended."""
        for pause in END_PAUSES:
            left = self._budget.left_behind
            if not left or self._closed_within(pause):
                return
            try:
                pids, began = [b.pid for b in left], [b.began for b in left]
                rows: list[Any] = conn.execute(_END_BACKENDS, (pids, began)).fetchall()
            except psycopg.Error as error:
                logger.debug("ending backends of ours failed: %s", type(error).__name__)
                return
            self._budget.ended(set(left) - {Backend(row[0], row[1]) for row in rows})
