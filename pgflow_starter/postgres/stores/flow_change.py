"""The way into changing a stored flow: by a role that may, under the core's lock of it."""

from __future__ import annotations

from pgflow_starter.errors import MissingRightsError, UnknownFlowError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores import pgmq, refusals, rights
from pgflow_starter.postgres.stores.features import detect
from pgflow_starter.postgres.stores.flows import LOCK_FLOW
from pgflow_starter.postgres.stores.needs import Use
from pgflow_starter.postgres.stores.stored_flow import StoredFlow, stored_flows

PATIENCE = 6.0
"""Seconds after which nobody tries once more for what others have locked."""

DENIED = "do this as the role that owns pgflow's tables and the flow's queue"
"""What mends it where the server refuses what no look at the role's rights has foreseen."""


def stored_to_change(conn: Connection, slug: str, use: Use, *, locked: bool = True) -> StoredFlow:
    """The flow of that slug as it is stored; to be called in a transaction, which is left with short waits for locks.

    `locked`: until its end nobody compiles, changes or deletes the flow. Raises UnknownFlowError, MissingRightsError
    for all that this use of it takes, NotInstalledError, and psycopg's errors.
    """
    conn.execute(pgmq.LIMIT_LOCKS)
    detect(conn)
    lacking = rights.missing(conn, (use,), [slug])
    role = rights.role_of(conn)
    if lacking and role is not None:
        raise MissingRightsError("; ".join(refusals.problems_of(lacking, *role)))
    # Newer cores lock the slug in small letters, older ones as it is.
    for name in dict.fromkeys((slug.lower(), slug)) if locked else ():
        conn.execute(LOCK_FLOW, (name,))
    stored = stored_flows(conn, [slug]).get(slug)
    if stored is None:
        raise UnknownFlowError(f"flow {slug!r} is not in database {conn.info.dbname!r}")
    return stored
