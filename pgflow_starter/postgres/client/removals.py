"""What a client does to be rid of runs, and of a flow with all of its."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple
from uuid import UUID

import psycopg

from pgflow_starter.core.retention import Retention
from pgflow_starter.core.runs import FINISHED
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError, MissingRightsError, PgflowError, RunNotFoundError, UnknownFlowError
from pgflow_starter.postgres.client.calls import Calls, with_remedy
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.flow_change import DENIED, PATIENCE, stored_to_change
from pgflow_starter.postgres.stores.flow_deletion import delete_with_all
from pgflow_starter.postgres.stores.forgetting import due, forget_run, pruning

DELETE_ANSWERS = 4
"""Times as long as a server may be silent that one run takes at most, which may have many tasks."""

COUNT_ANSWERS = 20
"""The same of counting, which reads all runs."""

DELETE_FLOW_ANSWERS = 60
"""The same of a flow, which may have any number of runs."""


class Pruned(NamedTuple):
    """How many runs were deleted. `left`: others that somebody had locked; None where another process prunes."""

    deleted: int
    left: int | None


def count_due(calls: Calls, retention: Retention) -> dict[str, int]:
    """How many runs are older than they are kept, by status. Blocks on I/O, for minutes at most; raises PgflowError."""
    return calls.resending(partial(due, retention=retention), answers=COUNT_ANSWERS)


def delete_run(calls: Calls, run_id: UUID) -> None:
    """As `Client.delete`."""
    calls.database.check_process()
    tried = False

    def delete(conn: Connection) -> None:
        nonlocal tried
        again, tried = tried, True
        status = forget_run(conn, str(run_id))
        if status is None and not again:  # else the first try, of which nothing was heard, may have done it
            raise RunNotFoundError(f"there is no run {run_id}")
        if status is not None and status not in FINISHED:
            msg = f"run {run_id} is not finished, but {status}: only finished runs are deleted, cancel it first"
            raise PgflowError(msg)

    calls.off_main(lambda: calls.resending(delete, answers=DELETE_ANSWERS))


def delete_flow(calls: Calls, slug: str) -> int:
    """As `Client.delete_flow`."""
    calls.database.check_process()
    deleted: int | None = None

    def delete(conn: Connection) -> int:
        nonlocal deleted
        try:
            with conn.transaction():
                stored_to_change(conn, slug, "delete")
                deleted = delete_with_all(conn, slug)
        except UnknownFlowError:
            if deleted is None:  # else the first try, of which nothing was heard, has done it
                raise
        except psycopg.errors.InsufficientPrivilege as error:
            raise MissingRightsError(f"{one_line(error.diag.message_primary or str(error))}: {DENIED}") from error
        return deleted

    return calls.off_main(lambda: calls.resending(delete, answers=DELETE_FLOW_ANSWERS, patience=PATIENCE))


def prune_runs(
    calls: Calls, retention: Retention, limit: int | None = None, told: Callable[[int], object] = lambda _: None
) -> Pruned:
    """As `Client.prune`; `told` is called with each batch's number of runs, on whatever thread."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        msg = f"limit must be an int from 1, or None, got {limit!r}"
        raise ValueError(msg)
    calls.database.check_process()
    wanted = True

    def prune() -> Pruned:
        deleted = 0
        with closing(pruning(calls.database, retention, limit)) as steps:
            while wanted:
                try:
                    count = next(steps)
                except StopIteration as end:
                    return Pruned(deleted, end.value)
                except DatabaseError as error:
                    raise (
                        _after(deleted, error) if deleted and not calls.closed else calls.callers_error(error)
                    ) from error
                deleted += count
                told(count)
        return Pruned(deleted, 0)

    try:
        return calls.off_main(prune)
    finally:
        wanted = False  # whoever was interrupted: nobody goes on on that thread


def _after(deleted: int, error: DatabaseError) -> DatabaseError:
    """The error, without a remedy that says that nothing was done."""
    told = with_remedy(error) if error.connection_lost else error
    return told.saying(f"{told}; {deleted} runs were deleted before")
