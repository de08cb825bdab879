"""The stand-in for newer cores, and a core's own acts: somebody's cron, a worker that dies."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from tests.support.waiting import eventually

SCRIPT = Path(__file__).with_name("newer_core.sql")

Admin = psycopg.Connection[tuple[object, ...]]


def upgrade(conninfo: str) -> None:
    """Make an installed 0.8.1 the stand-in for a newer core, whoever is at work in it; one that is newer is left."""
    eventually(lambda: _upgraded(conninfo), what="the upgrade")


def _upgraded(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as connection:
        if has(connection, "requeue_stalled_tasks"):
            return True
        try:
            # Workers hold what it wants, and want what it holds: rather once more than a deadlock.
            connection.execute("set local lock_timeout = '200ms'")
            connection.execute(SCRIPT.read_bytes())
        except psycopg.errors.LockNotAvailable:
            return False
        return True


def has(connection: Admin, function: str) -> bool:
    """Whether the core has a function of that name."""
    return connection.execute("select to_regproc(%s) is not null", (f"pgflow.{function}",)).fetchone() == (True,)


def claim_and_die(admin: Admin, slug: str) -> UUID:
    """A worker starts all tasks that are visible, a day ago, and is not heard of again."""
    worker = uuid4()
    admin.execute(
        "insert into pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at)"
        " values (%s, %s, %s, now() - interval '1 day')",
        (worker, slug, slug),
    )
    admin.execute(
        "select pgflow.start_tasks(%(slug)s, array(select msg_id from pgmq.read(%(slug)s, 600, 100)), %(worker)s)",
        {"slug": slug, "worker": worker},
    )
    make_old(admin, slug)
    return worker


def make_old(admin: Admin, slug: str) -> None:
    """Make the flow's started tasks look a day old."""
    admin.execute(
        "update pgflow.step_tasks"
        " set queued_at = queued_at - interval '1 day', started_at = started_at - interval '1 day'"
        " where flow_slug = %s and status = 'started'",
        (slug,),
    )


def cron(admin: Admin) -> None:
    """What somebody's cron does on a newer core; an older one has nothing for it to do."""
    if has(admin, "requeue_stalled_tasks"):
        admin.execute("select pgflow.requeue_stalled_tasks()")


def attempts(admin: Admin, run_id: UUID) -> list[object]:
    """The attempts that each task of the run has had."""
    rows = admin.execute(
        "select attempts_count from pgflow.step_tasks where run_id = %s order by step_slug, task_index", (run_id,)
    ).fetchall()
    return [row[0] for row in rows]
