"""Changing a flow that is stored: in one transaction, under the core's lock of the flow, by a role that may."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.setup.admin import Connection, limited, session
from pgflow_starter.postgres.stores.flow_change import DENIED, PATIENCE, stored_to_change
from pgflow_starter.postgres.stores.needs import Use
from pgflow_starter.postgres.stores.stored_flow import StoredFlow

LONGEST = 600
"""Seconds that one statement may take: flows with millions of runs are deleted, too."""

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
    with session(conninfo, denied=DENIED) as connection:
        # Whatever the role's default: what another one commits while we wait for its lock has to be seen.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        began = clock.monotonic()
        while True:
            try:
                with limited(connection, LONGEST):
                    return work(connection, stored_to_change(connection, slug, use, locked=locked))
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                if clock.monotonic() - began >= PATIENCE:
                    raise DatabaseError(
                        f"nothing was changed: somebody has locked flow {slug!r}, or runs or messages of it: a"
                        " registration, another command like this one, or a transaction that was left open"
                        " (pg_stat_activity tells); try again when it has ended",
                        sqlstate=error.sqlstate,
                        error_type=type(error).__name__,
                    ) from None
