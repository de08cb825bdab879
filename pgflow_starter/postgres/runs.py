"""Runs in the database: started once, and read."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import PgflowError, UnknownFlowError
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.run import Run

if TYPE_CHECKING:
    from pgflow_starter.postgres.client import PgflowClient

_COLUMNS = """
r.run_id, r.flow_slug, r.status, r.input::text, r.output::text, {error},
r.started_at, coalesce(r.completed_at, r.failed_at)
"""
_ERROR = """
(select t.error_message from pgflow.step_tasks t
 where t.run_id = r.run_id and t.status = 'failed' and r.status = 'failed' order by t.failed_at limit 1)
"""
# Not called at all unless the statement saw the flow's steps: start_flow beside the flow's first compile may see the
# flow by its foreign key and no steps yet, and such a run is completed at once with nothing done.
_START = (
    f"select {_COLUMNS.format(error='null')} from pgflow.start_flow(%(slug)s, %(input)s::jsonb, %(run_id)s::uuid) r"  # noqa: S608 - constant
    " where exists (select from pgflow.steps where flow_slug = %(slug)s)"
)
FIND = f"select {_COLUMNS.format(error=_ERROR)} from pgflow.runs r where r.run_id = any(%s)"  # noqa: S608 - a constant
"""The rows of these runs, for `run_of`."""


def start_run(conn: Connection, slug: str, input_json: str, run_id: UUID, client: PgflowClient) -> Run:
    """Start a run, or find the one of that id. Raises UnknownFlowError, PgflowError for an id that is taken."""
    try:
        # In a transaction of the caller's: a savepoint, for a run_id that is taken must not end it.
        idle = conn.info.transaction_status == TransactionStatus.IDLE
        with nullcontext() if idle else conn.transaction():
            row = conn.execute(_START, {"slug": slug, "input": input_json, "run_id": run_id}).fetchone()
    except psycopg.errors.UniqueViolation:
        row = conn.execute(FIND, ([run_id],)).fetchone()
        if row is None:
            msg = f"run {run_id} exists, but this transaction began before it did and cannot see it: ask for it later"
            raise PgflowError(msg) from None
        if row[1] != slug:
            msg = f"run {run_id} is a run of flow {row[1]!r}, not of {slug!r}"
            raise PgflowError(msg) from None
    if row is None:
        raise unknown_flow(slug)
    return run_of(row, client)


def unknown_flow(slug: str) -> UnknownFlowError:
    """The error for a flow that is not there."""
    return UnknownFlowError(f"flow {slug!r} is not in the database: start a starter that has it, or check the slug")


def run_of(row: Any, client: PgflowClient) -> Run:
    """A row as a Run. Raises PgflowError for JSON that goes beyond what Python parses."""
    run_id, slug, status, given, output, error, started_at, ended_at = row
    ended = None if ended_at is None else ended_at.astimezone(UTC)
    try:
        given, output = json.loads(given), None if output is None else json.loads(output)
    except (ValueError, RecursionError) as unreadable:
        msg = f"the input or output of run {run_id} cannot be read: {type(unreadable).__name__}: {unreadable}"
        raise PgflowError(msg) from unreadable
    return Run(
        run_id, slug, status, given, output, error, started_at.astimezone(UTC), ended, client, SystemClock().monotonic()
    )
