"""Changing a flow that is stored: in one transaction, under the core's lock of the flow, by a role that may."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError, MissingRightsError, UnknownFlowError
from pgflow_starter.postgres.setup.admin import Connection, limited, session
from pgflow_starter.postgres.stores import pgmq, refusals, rights
from pgflow_starter.postgres.stores.features import detect
from pgflow_starter.postgres.stores.flows import LOCK_FLOW
from pgflow_starter.postgres.stores.needs import Use
from pgflow_starter.postgres.stores.stored_flow import StoredFlow, stored_flows

PATIENCE = 6.0
"""Seconds after which nobody tries once more for what others have locked."""

LONGEST = 600
"""Seconds that one statement may take: flows with millions of runs are deleted, too."""

_DENIED = "do this as the role that owns pgflow's tables and the flow's queue"

T = TypeVar("T")


def on_stored(
    conninfo: str, slug: str, use: Use, work: Callable[[Connection, StoredFlow], T], *, locked: bool = True
) -> T:
    """What `work` does with the flow of that slug, or finds of it: all of that or nothing.

    `locked`: nobody compiles, changes or deletes the flow meanwhile. Where somebody else has locked what is needed, it
    is tried anew, for some seconds; a statement may take 10 minutes. Raises UnknownFlowError, MissingRightsError,
    NotInstalledError, SetupError, DatabaseError: then nothing was changed. Safe from any thread and process.
    """
    clock = SystemClock()
    with session(conninfo, denied=_DENIED) as connection:
        # Whatever the role's default: what another one commits while we wait for its lock has to be seen.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        began = clock.monotonic()
        while True:
            try:
                with limited(connection, LONGEST):
                    connection.execute(pgmq.LIMIT_LOCKS)
                    _refuse_missing(connection, use, slug)
                    # Newer cores lock the slug in small letters, older ones as it is.
                    for name in dict.fromkeys((slug.lower(), slug)) if locked else ():
                        connection.execute(LOCK_FLOW, (name,))
                    stored = stored_flows(connection, [slug]).get(slug)
                    if stored is None:
                        raise UnknownFlowError(f"flow {slug!r} is not in database {connection.info.dbname!r}")
                    return work(connection, stored)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                if clock.monotonic() - began >= PATIENCE:
                    raise DatabaseError(
                        f"nothing was changed: somebody has locked flow {slug!r}, or runs or messages of it: a"
                        " registration, another command like this one, or a transaction that was left open"
                        " (pg_stat_activity tells); try again when it has ended",
                        sqlstate=error.sqlstate,
                        error_type=type(error).__name__,
                    ) from None


def _refuse_missing(connection: Connection, use: Use, slug: str) -> None:
    detect(connection)
    lacking = rights.missing(connection, (use,), [slug])
    role = rights.role_of(connection)
    if lacking and role is not None:
        raise MissingRightsError("; ".join(refusals.problems_of(lacking, *role)))
