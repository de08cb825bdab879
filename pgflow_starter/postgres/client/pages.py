"""Runs a page at a time, each with work that is bounded however many runs there are.

The newest runs are found by an index on when runs began, which our own installations have and others can have made
(`setup.runs_index`): without it all that match are read. A filter that few runs pass is looked up by pgflow's own index
for it; with any other the runs are walked from the newest on, so many at a time, and the page tells where to go on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pgflow_starter.core.views import Place, RunsPage, RunsWanted
from pgflow_starter.postgres.client.listings import summary_of
from pgflow_starter.postgres.connections.connection import Connection

FEW = 2_000
"""Runs of a status or a flow that are read and sorted for one page."""

WALKED = 2_000
"""Runs that are looked at for one page."""

_FEW_OF_STATUS = """
select pg_catalog.count(*) from (
    select from pgflow.runs r where r.status = any(%(statuses)s::text[]) limit %(few)s + 1) few
"""
_FEW_OF_FLOW = """
select pg_catalog.count(*) from (select from pgflow.runs r where r.flow_slug = %(flow)s limit %(few)s + 1) few
"""
# The walk passes over columns that it does not need: inputs and outputs may be long.
_WALKED = """
select r.run_id, r.flow_slug, r.status, r.started_at, r.completed_at, r.failed_at from pgflow.runs r
where (r.started_at, r.run_id) < (%(began)s::timestamptz, %(after)s::uuid) and r.started_at >= %(since)s::timestamptz
order by r.started_at desc, r.run_id desc limit %(walked)s
"""
_OF_FEW = """
select r.run_id, r.flow_slug, r.status, r.started_at, r.completed_at, r.failed_at
from (select f.* from pgflow.runs f where {few} limit %(few)s) r
where (r.started_at, r.run_id) < (%(began)s::timestamptz, %(after)s::uuid) and r.started_at >= %(since)s::timestamptz
"""
_BY_ID = """
select r.run_id, r.flow_slug, r.status, r.started_at, r.completed_at, r.failed_at
from pgflow.runs r where r.run_id = %(id)s
"""
_OF_STATUS = "status = any(%(statuses)s::text[])"
_OF_FLOW = "flow_slug = %(flow)s"
# One row at least, with how many were looked at, and found, and the last that was looked at.
_PAGE = """
with looked as materialized ({looked}), found as materialized (
    select l.* from looked l where {which} order by l.started_at desc, l.run_id desc limit %(limit)s + 1
), behind as materialized (
    select l.run_id, l.started_at from looked l order by l.started_at, l.run_id limit 1
)
select r.run_id::text, r.flow_slug, r.status, extract(epoch from r.started_at)::float8,
       extract(epoch from coalesce(r.completed_at, r.failed_at))::float8,
       (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                           s.step_slug, s.status, s.initial_tasks, s.remaining_tasks,
                           to_jsonb(s) ->> 'skip_reason'::text)
                         order by d.step_index)
        from pgflow.step_states s join pgflow.steps d using (flow_slug, step_slug) where s.run_id = r.run_id)::text,
       all_.looked, all_.found, all_.last_id, all_.last_began
from (select (select pg_catalog.count(*) from looked) as looked, (select pg_catalog.count(*) from found) as found,
             (select b.run_id::text from behind b) as last_id,
             (select extract(epoch from b.started_at)::float8 from behind b) as last_began) all_
left join (select f.* from found f order by f.started_at desc, f.run_id desc limit %(limit)s) r on true
order by r.started_at desc, r.run_id desc
"""
_LAST = datetime(9999, 12, 30, tzinfo=UTC)
_HIGHEST = UUID(int=2**128 - 1)


def page_of(conn: Connection, wanted: RunsWanted) -> RunsPage:
    """The runs that are wanted. Raises psycopg's errors."""
    after = wanted.after
    if wanted.until is not None and (after is None or wanted.until < after.began):
        after = Place(wanted.until, _HIGHEST)  # with those that began at that very time
    values: dict[str, Any] = {
        "statuses": sorted(wanted.statuses),
        "flow": wanted.flow,
        "id": wanted.id,
        "began": "infinity" if after is None else after.began,
        "after": _HIGHEST if after is None else after.run_id,
        "since": wanted.since or "-infinity",
        "few": FEW,
        "walked": WALKED if wanted.statuses or wanted.flow is not None else wanted.limit + 1,
        "limit": wanted.limit,
    }
    looked = _looked(conn, wanted, values)
    conditions = ([_OF_STATUS] if wanted.statuses else []) + ([_OF_FLOW] if wanted.flow is not None else [])
    which = " and ".join(f"l.{condition}" for condition in conditions) or "true"
    rows: list[Any] = conn.execute(_PAGE.format(looked=looked, which=which), values).fetchall()
    count, found, last_id, last_began = rows[0][6:]
    runs = tuple(summary_of(row[:6]) for row in rows if row[0] is not None)
    if found > wanted.limit:
        return RunsPage(runs, Place(runs[-1].started_at or _LAST, runs[-1].id))
    if looked is _WALKED and count >= WALKED:
        return RunsPage(runs, Place(datetime.fromtimestamp(last_began, UTC), UUID(last_id)))
    return RunsPage(runs)


def _looked(conn: Connection, wanted: RunsWanted, values: dict[str, Any]) -> str:
    """The statement that finds the runs to look at."""
    if wanted.id is not None:
        return _BY_ID
    for count, condition in ((_FEW_OF_FLOW, _OF_FLOW), (_FEW_OF_STATUS, _OF_STATUS)):
        if wanted.flow is None if condition is _OF_FLOW else not wanted.statuses:
            continue
        row: Any = conn.execute(count, values).fetchone()
        if row[0] <= FEW:
            return _OF_FEW.format(few=f"f.{condition}")
    return _WALKED
