"""Listings: runs from the newest on, of a status, of a flow, since a time, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pgflow_starter.core.moments import in_utc
from pgflow_starter.core.run_summary import RunSummary, StepSummary
from pgflow_starter.core.runs import RUN_STATUSES
from pgflow_starter.errors import RunNotFoundError
from pgflow_starter.postgres.client.life import uuid_of
from pgflow_starter.postgres.client.run import STATUSES, RunFacts
from pgflow_starter.postgres.client.steps import moment
from pgflow_starter.postgres.connections.connection import Connection

MOST = 10_000
"""Runs in one listing."""

_LONGEST = timedelta(days=365_000)
"""Beyond a thousand years PostgreSQL has no such time, and no run."""

# The listing is one statement for each set of conditions: plans hold for any parameters, and must suit them all.
_LISTED = """
select r.run_id::text, r.flow_slug, r.status, extract(epoch from r.started_at)::float8,
       extract(epoch from coalesce(r.completed_at, r.failed_at))::float8,
       (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                           s.step_slug, s.status, s.initial_tasks, s.remaining_tasks,
                           to_jsonb(s) ->> 'skip_reason'::text)
                         order by d.step_index)
        from pgflow.step_states s join pgflow.steps d using (flow_slug, step_slug) where s.run_id = r.run_id)::text
from (select r.* from pgflow.runs r where {which}
      order by r.started_at desc, r.run_id desc limit %(limit)s) r
order by r.started_at desc, r.run_id desc
"""
_OF_STATUS = "r.status = %(status)s"
_OF_FLOW = "r.flow_slug = %(flow)s"
_SINCE = "r.started_at >= %(since)s::timestamptz"
_FOR = "r.started_at >= pg_catalog.now() - pg_catalog.make_interval(secs => %(since)s)"
_AFTER = "(r.started_at, r.run_id) < (%(began)s::timestamptz, %(after)s::uuid)"
_AFTER_ID = "(r.started_at, r.run_id) < (select a.started_at, a.run_id from pgflow.runs a where a.run_id = %(after)s)"


def listing(
    status: str | None,
    slug: str | None,
    since: datetime | timedelta | None,
    limit: int,
    after: RunSummary | RunFacts | UUID | str | None,
) -> Callable[[Connection], tuple[RunSummary, ...]]:
    """What reads the runs, as `Client.runs` tells of them. Raises ValueError; when called RunNotFoundError, psycopg's.

    It may be called again: nothing is changed.
    """
    if status not in (None, *RUN_STATUSES):
        msg = f"status must be one of {', '.join(RUN_STATUSES)}, got {status!r}"
        raise ValueError(msg)
    if not isinstance(limit, int) or not 1 <= limit <= MOST:
        msg = f"limit must be an int from 1 to {MOST:,}, got {limit!r}"
        raise ValueError(msg)
    values: dict[str, Any] = {"limit": limit}
    which = []
    if status is not None:
        which.append(_OF_STATUS)
        values["status"] = status
    if slug is not None:
        which.append(_OF_FLOW)
        values["flow"] = slug
    if since is not None:
        condition, values["since"] = _since(since)
        which.append(condition)
    asked_for: UUID | None = None
    if isinstance(after, RunSummary | RunFacts) and after.started_at is not None:
        which.append(_AFTER)
        values |= {"began": after.started_at, "after": after.id}
    elif after is not None:
        asked_for = values["after"] = after.id if isinstance(after, RunSummary | RunFacts) else uuid_of(after)
        which.append(_AFTER_ID)
    query = _LISTED.format(which=" and ".join(which) or "true")
    return lambda conn: _read(conn, query, values, asked_for)


def _since(since: object) -> tuple[str, object]:
    """The condition, and its value. Raises ValueError."""
    if isinstance(since, timedelta) and since >= timedelta():
        return _FOR, min(since, _LONGEST).total_seconds()
    if isinstance(since, datetime) and since.utcoffset() is not None:
        return _SINCE, in_utc("since", since)
    msg = f"since must be a datetime with a time zone, or a timedelta that is not negative, got {since!r}"
    raise ValueError(msg)


def _read(conn: Connection, query: str, values: dict[str, Any], after: UUID | None) -> tuple[RunSummary, ...]:
    rows: list[Any] = conn.execute(query, values).fetchall()
    # Looked for last: one that is there after an empty answer was there before it.
    if not rows and after is not None and not conn.execute(STATUSES, ([str(after)],)).fetchall():
        msg = f"there is no run {after} to go on from: give the last run itself, which has its time"
        raise RunNotFoundError(msg)
    return tuple(map(summary_of, rows))


def summary_of(row: Any) -> RunSummary:
    """A row of a listing."""
    run_id, slug, status, started_at, ended_at, steps = row
    notes: list[str] = []
    began, ended = moment(started_at, "started_at", notes), moment(ended_at, "ended_at", notes)
    told = tuple(StepSummary(*step) for step in json.loads(steps or "[]"))
    return RunSummary(UUID(run_id), slug, status, began, ended, told, tuple(notes))
