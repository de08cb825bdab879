"""`Calls`: how a client makes its calls to the database, and what callers are told of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pgflow_starter.errors import MISSING_STATES, DatabaseError, PgflowError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.connections.errors import no_thread
from pgflow_starter.postgres.stores.features import INSTALL
from pgflow_starter.threads.awaited import Awaited
from pgflow_starter.threads.off_main import NoThreadError, OffMain

T = TypeVar("T")

_READ_ONLY = "25006"

AWAITED = 16
"""Calls of coroutines that are made at a time: more than there are connections, for some wait elsewhere."""


class Calls:
    """The calls of one client, on a database of its own; or of a starter, then `ended` makes what tells of its end.

    Thread-safe.
    """

    def __init__(self, database: Database, ended: Callable[[], PgflowError] | None = None) -> None:
        self.database = database
        self.threads = OffMain("pgflow-client")
        self.awaited = Awaited("pgflow-aio", AWAITED)
        self.closed = False
        self._ended = ended

    def close(self) -> None:
        """What fails from now on fails for that. Does not wait. Idempotent."""
        self.closed = True
        self.threads.close()

    def off_main(self, call: Callable[[], T]) -> T:
        """Not on the main thread, where a signal handler may raise. Raises PgflowError where there is no thread."""
        try:
            return self.threads(call)
        except NoThreadError as error:
            raise self.callers_error(no_thread(error)) from error

    def resending(self, call: Callable[[Connection], T], *, answers: float = 1.0, patience: float | None = None) -> T:
        """Call on a connection; again while somebody's lock keeps it waiting, and once more when the connection broke.

        Then it is not known whether the first was carried out. `answers` as in `Database.connection`: it is the limit
        of all tries as well, where there is no `patience`, in seconds, with others' locks. Raises PgflowError, whose
        `unknown` tells of any of the tries.
        """
        clock = self.database.clock
        deadline = clock.monotonic() + (self.database.limit_of(answers) if patience is None else patience)
        resend, unknown = True, False
        while True:
            try:
                return self.database.call(call, answers=answers)
            except DatabaseError as error:
                unknown = unknown or error.unknown
                if error.locked and not self.closed and clock.monotonic() < deadline:
                    continue
                if error.connection_lost and resend and self.database.outage is None:
                    resend = False
                    continue
                error.unknown = unknown
                raise (with_remedy(error) if unknown else self.callers_error(error)) from error

    def callers_error(self, error: DatabaseError) -> PgflowError:
        """The error with its remedy; where it is the end of the starter that made it, that."""
        return self.end() if self.closed and self._ended is not None else with_remedy(error)

    def end(self) -> PgflowError:
        """What is told to who waits when the client is closed."""
        return PgflowError("the client was closed") if self._ended is None else self._ended()


def with_remedy(error: DatabaseError) -> DatabaseError:
    """The error with what a caller can do about it in its text, where there is something."""
    if error.sqlstate in MISSING_STATES:
        remedy = f"pgmq or the pgflow core is missing in this database; {INSTALL}"
    elif error.sqlstate == _READ_ONLY:
        remedy = "this transaction or server is read-only; connect to the primary, in a transaction that may write"
    elif error.locked and not error.unknown:
        remedy = "somebody holds a lock on it (see pg_locks): nothing was done, try again when that is over"
    elif error.timed_out and error.sqlstate is not None and not error.unknown:
        remedy = "it took too long and was cancelled: nothing was done"
    elif error.connection_lost and error.error_type not in ("PoolClosed", "AnswerTimeout"):
        remedy = "the database cannot be reached; check that it runs and what the connection string says"
    else:
        return error
    return error.saying(f"{error}; {remedy}")
