"""`Session`: a connection of ours, on which the server gives up before we do; and `gated`, which makes them.

Connections to the server itself have their limits from `set_up` on. A call with others, and each call behind a pooler,
which may hand every transaction to another session, sets its own: locally, and in the same round trip.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Self

import psycopg
from psycopg import sql
from psycopg.abc import PQGenConn
from psycopg.pq import PipelineStatus, TransactionStatus

from pgflow_starter.postgres.connections.server_words import PEEKED, peek, sqlstate_in

Connection = psycopg.Connection[tuple[object, ...]]

SERVER_SHARE = 2 / 3
"""Of our own limit on a call: so much of it a statement may take by the server's."""

LOCK_LIMIT = 0.5
"""Seconds that a statement waits for somebody's lock; what has to have it comes again."""

CHECK_INTERVAL = 2.0
"""Seconds between the server's looks whether the client of a running statement is still there."""

# Backslashes within quotes are backslashes: pgmq's functions, which are read by what the session has, rely on it.
_SETTINGS = """
select set_config('statement_timeout', {}, true), set_config('lock_timeout', {}, true),
       set_config('standard_conforming_strings', 'on', true)
"""
# Keepalives: a client that is gone without a word is noticed as soon as we notice a server, by a backend that is idle.
# No statement of ours takes as long as compiling it would; and pgflow's functions, as ours, lock a row first and then
# look at what others have done to it. Plans are made once a session and hold for any parameters and any size of a
# table: one that was made while it was small would else read it whole, until the server has counted its rows again.
_SET_UP = """
select set_config('statement_timeout', {}, false), set_config('lock_timeout', {}, false),
       set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false),
       set_config('tcp_keepalives_count', '3', false), set_config('standard_conforming_strings', 'on', false),
       set_config('jit', 'off', false), set_config('default_transaction_isolation', 'read committed', false),
       set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
       case when {checked} and current_setting('client_connection_check_interval', true) is not null
            then set_config('client_connection_check_interval', {interval}, false) end,
       (select extract(epoch from backend_start)::text from pg_stat_get_activity(pg_backend_pid()))
"""
_STAY = """
select case when current_setting('idle_session_timeout', true) is not null
            then set_config('idle_session_timeout', '0', false) end
"""


class ServerLimits(NamedTuple):
    """What the server puts up with, in milliseconds as it takes them; 0 is for ever."""

    statement: int
    lock: int

    def setting(self) -> sql.Composed:
        """The statement that sets them for its transaction."""
        return sql.SQL(_SETTINGS).format(str(self.statement), str(self.lock))


def server_limits(seconds: float, lock: float = LOCK_LIMIT) -> ServerLimits:
    """Those of the server for a call that we give up after `seconds`; `lock` is how long it waits for a lock."""
    return ServerLimits(0 if math.isinf(seconds) else max(1, int(seconds * SERVER_SHARE * 1000)), int(lock * 1000))


class Backend(NamedTuple):
    """The process that serves a connection: its id, and when it began, for ids come again."""

    pid: int
    began: str


class Session(psycopg.Connection[tuple[object, ...]]):
    """A connection whose calls are limited by the server. Not thread-safe, but for `cancel_safe`."""

    backend: Backend | None = None
    """None where a pooler is in between."""
    ended_by: str | None = None
    """The SQLSTATE with which the server ended the session while it was idle."""
    used = False
    """Whether a call was made on it before, so that it may know of things as they were."""
    let_go: Callable[[Session], object] | None = None
    """Called once, when it is closed by whomever."""
    _limits: sql.Composed | None = None
    _depth = 0

    def set_up(self, limits: ServerLimits | None) -> None:
        """Have the server keep these from now on, and find out who serves us. Blocks on I/O.

        None where a pooler is in between: then each call has to set its own.
        """
        self.add_notice_handler(self._noticed)
        if limits is None:
            return
        try:
            row = self._set_up(limits, checked=True)
        except psycopg.errors.InvalidParameterValue:  # a platform on which the server cannot look after clients
            row = self._set_up(limits, checked=False)
        # A role that was made another's cannot see when its own backends began.
        self.backend = Backend(self.info.backend_pid, str(row[-1] or ""))

    def close(self) -> None:
        """As psycopg's."""
        super().close()
        told, self.let_go = self.let_go, None
        if told is not None:
            told(self)

    def stay(self) -> None:
        """Have the server keep the session however long it is idle, where it would not. Blocks on I/O."""
        super().execute(_STAY)

    @property
    def keeps_settings(self) -> bool:
        """Whether what `set_up` set is in force, and nothing else is to be set for the call that runs."""
        return self._limits is None and self.backend is not None

    def limit_by(self, limits: ServerLimits | None) -> None:
        """What each transaction of the next call has to set; None: what is in force is right."""
        self._limits = None if limits is None else limits.setting()

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """As psycopg's, which would log what its end comes to, besides the error that it ends with."""
        raised: BaseException | None = None
        by_itself = self.pgconn.transaction_status == TransactionStatus.IDLE
        try:
            with super().pipeline() as pipeline:
                try:
                    yield pipeline
                except BaseException as error:
                    raised = error
        except psycopg.Error:
            if raised is None:
                raise
        finally:
            # The server passed over the end of a transaction that failed in it.
            if by_itself and self.pgconn.transaction_status == TransactionStatus.INERROR:
                with suppress(psycopg.Error):
                    super().execute("rollback")
        if raised is not None:
            raise raised

    def alive(self) -> bool:
        """Whether nothing says that this idle connection has ended. Does not wait."""
        try:
            while _readable(self.fileno()):
                self.pgconn.consume_input()
                self.pgconn.is_busy()  # reads what has come: the server's last words are a notice here
                if self.ended_by is not None:
                    return False
        except (psycopg.Error, OSError):
            return False
        return True

    def execute(self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False) -> Any:
        """As psycopg's."""
        by_itself = self._depth == 0 and self._pipeline is None
        if self._limits is None or not by_itself or self.pgconn.transaction_status != TransactionStatus.IDLE:
            return super().execute(query, params, prepare=prepare, binary=binary)
        # Several statements in one simple query are one transaction, and one round trip.
        whole = psycopg.ClientCursor(self).mogrify(query, params)
        cursor = super().execute(sql.SQL("{}; {}").format(self._limits, sql.SQL(whole)), prepare=False)
        cursor.nextset()
        return cursor

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        """As psycopg's; first in a pipeline, where that would wait for what BEGIN and COMMIT come to, it does not."""
        # Without the two, all until the pipeline's end would be one transaction to the server. But of what refuses its
        # commit psycopg has then no error, and loses the connection.
        first = self._depth == 0 and self.pgconn.transaction_status == TransactionStatus.IDLE
        if first and self._pipeline is not None and not (savepoint_name or force_rollback):
            with self._pipelined():
                yield psycopg.Transaction(self)
            return
        with super().transaction(savepoint_name, force_rollback) as transaction:
            self._depth += 1
            try:
                if self._depth == 1 and self._limits is not None:
                    super().execute(self._limits)
                yield transaction
            finally:
                self._depth -= 1

    @contextmanager
    def _pipelined(self) -> Iterator[None]:
        """Around the statements of a pipeline: none of them counts when the block raises."""
        self._depth += 1
        try:
            super().execute("begin")
            if self._limits is not None:
                super().execute(self._limits)
            yield
        except BaseException:
            if self.pgconn.pipeline_status != PipelineStatus.ABORTED:  # else none counts
                with suppress(psycopg.Error):
                    super().execute("rollback")
            raise
        else:
            super().execute("commit")
        finally:
            self._depth -= 1

    def _set_up(self, limits: ServerLimits, *, checked: bool) -> tuple[object, ...]:
        values = str(limits.statement), str(limits.lock)
        interval = str(int(CHECK_INTERVAL * 1000))
        return super().execute(sql.SQL(_SET_UP).format(*values, checked=checked, interval=interval)).fetchone() or ()

    def _noticed(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if (diagnostic.severity_nonlocalized or diagnostic.severity) in FATAL:
            self.ended_by = diagnostic.sqlstate or ""


FATAL = ("FATAL", "PANIC")
"""The severities of errors that end a session."""


def gated(wanted: Callable[[], bool]) -> type[Session]:
    """A class of connections whose `connect` raises OperationalError within 0.1 s of being no longer `wanted`.

    Asked before each attempt and some ten times a second while the server does not answer. Nobody can interrupt libpq
    while it resolves a host name: that may take as long as the resolver does. An error that the server sent before
    encryption began, or without any, has its SQLSTATE, which libpq does not hand over.
    """

    class GatedSession(Session):
        # psycopg offers no way to interrupt `connect`, but resumes this generator every 0.1 s. It is not in the
        # documented interface: in a psycopg that has none, connecting ends with its time limit.
        @classmethod
        def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
            _check(wanted)
            connecting = super()._connect_gen(conninfo)
            sqlstate, seen = None, b""
            try:
                waits_for = next(connecting)
                while True:
                    ready = yield waits_for
                    _check(wanted)
                    seen = (seen + peek(waits_for[0]))[-PEEKED:]
                    sqlstate = sqlstate_in(seen) or sqlstate_in(seen[1:]) or sqlstate  # it may begin with a plain "N"
                    waits_for = connecting.send(ready)
            except StopIteration as made:
                return made.value  # type: ignore[no-any-return] # untyped in psycopg
            except psycopg.OperationalError as error:
                raise _with_sqlstate(error, sqlstate) from None
            finally:
                connecting.close()

    return GatedSession


def _check(wanted: Callable[[], bool]) -> None:
    if not wanted():
        msg = "the connection is no longer wanted"
        raise psycopg.OperationalError(msg)


def _with_sqlstate(error: psycopg.OperationalError, sqlstate: str | None) -> psycopg.Error:
    """The same as psycopg's own class for that SQLSTATE, which keeps it when psycopg copies the error."""
    try:
        return psycopg.errors.lookup(sqlstate or "")(str(error), pgconn=error.pgconn)
    except KeyError:
        return error


def _readable(number: int) -> bool:
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))
