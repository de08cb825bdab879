"""Runs that ended long ago, made in bulk by SQL, as the core leaves them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

Admin = psycopg.Connection[Any]

# The queue's own messages are numbered by its sequence; what is archived has numbers of it.
_MADE = """
with runs as (
    insert into pgflow.runs (flow_slug, status, input, output, remaining_steps, started_at, completed_at, failed_at)
    select %(slug)s, %(status)s, to_jsonb(n), case when %(status)s = 'completed' then to_jsonb(n) end, 0,
           now() - %(age)s::interval - interval '1 min',
           case when %(status)s = 'completed' then now() - %(age)s::interval end,
           case when %(status)s = 'failed' then now() - %(age)s::interval end
    from generate_series(1, %(count)s) n
    returning run_id
), states as (
    insert into pgflow.step_states (flow_slug, run_id, step_slug, status, remaining_tasks, initial_tasks, created_at,
                                    started_at)
    select %(slug)s, run_id, %(step)s, %(status)s, 0, 1, now() - interval '9 years', now() - interval '9 years'
    from runs
), numbered as materialized (
    select run_id, nextval(pg_get_serial_sequence(format('pgmq.%%I', 'q_' || %(queue)s), 'msg_id')) as msg_id from runs
), archived as (
    insert into pgmq.{archive} (msg_id, vt, message)
    select msg_id, now(), jsonb_build_object('flow_slug', %(slug)s::text, 'run_id', run_id, 'step_slug', %(step)s::text,
                                             'task_index', 0) from numbered
)
insert into pgflow.step_tasks (flow_slug, run_id, step_slug, message_id, status, attempts_count, queued_at)
select %(slug)s, run_id, %(step)s, msg_id, %(status)s, 1, now() - interval '9 years' from numbered
returning run_id
"""
TABLES = ("pgflow.runs", "pgflow.step_states", "pgflow.step_tasks")


def make_runs(
    admin: Admin,
    count: int,
    *,
    slug: str = "echo",
    days: float = 365,
    status: str = "completed",
    step: str | None = None,
) -> list[UUID]:
    """Runs of a job that ended so many days ago, their messages archived."""
    statement = psycopg.sql.SQL(_MADE).format(archive=psycopg.sql.Identifier(f"a_{slug.lower()}"))
    given = {"slug": slug, "queue": slug.lower(), "step": step or slug, "status": status, "count": count}
    rows = admin.execute(statement, {**given, "age": f"{days} days"}).fetchall()
    return [row[0] for row in rows]


def left(admin: Admin, *more: str) -> dict[str, int]:
    """How many rows the tables of runs have, and `more` tables."""
    counts: dict[str, int] = {}
    for table in (*TABLES, *more):
        row: Any = admin.execute(f"select count(*) from {table}".encode()).fetchone()
        counts[table] = row[0]
    return counts
