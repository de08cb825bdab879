"""What a caller can do about an error of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgflow_starter.errors import MISSING_STATES, DatabaseError
from pgflow_starter.postgres.stores.features import INSTALL

_READ_ONLY = "25006"


def with_remedy(error: DatabaseError) -> DatabaseError:
    """The error with the remedy in its text, where there is one."""
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


@contextmanager
def remedied() -> Iterator[None]:
    """Around calls of the database's: what they raise comes out with its remedy."""
    try:
        yield
    except DatabaseError as error:
        raise with_remedy(error) from error
