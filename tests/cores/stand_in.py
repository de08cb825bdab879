"""The stand-ins for newer cores, and a core's own acts: somebody's cron, a worker that dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from tests.support import cores
from tests.support.waiting import eventually

STAND_INS = {"0.14": "step_conditions", "0.15.1": "task_lifecycle_hardening", "0.17": "private_step_queues"}
"""Each of them is made of the one before, the first of an installed 0.8.1; and the migration that brought it."""

INSTALLED = Path(cores.FOLDER or "0.8.1").name
CORES = (INSTALLED,) if cores.FOLDER else (INSTALLED, *STAND_INS)

Admin = psycopg.Connection[tuple[object, ...]]


def upgrade(conninfo: str, version: str) -> None:
    """Make what is installed the stand-in for that core, whoever is at work in it; one that is as new is left.

    So is a real one: nothing of ours is laid over it.
    """
    for stand_in in () if cores.FOLDER else STAND_INS:
        eventually(partial(_upgraded, conninfo, stand_in), what=f"the upgrade to {stand_in}")
        if stand_in == version:
            return


def cores_since(version: str) -> tuple[str, ...]:
    """The cores here that are as new."""
    if cores.FOLDER:
        return CORES if any(STAND_INS[version] in name for name in cores.names()) else ()
    return CORES[CORES.index(version) :]


def _upgraded(conninfo: str, version: str) -> bool:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("select obj_description(to_regnamespace('pgflow'), 'pg_namespace')").fetchone()
        if row is not None and row[0] in cores_since(version):
            return True
        try:
            # Workers hold what it wants, and want what it holds: rather once more than a deadlock.
            connection.execute("set local lock_timeout = '200ms'")
            script = Path(__file__).with_name(f"core_{version.replace('.', '_')}.sql")
            connection.execute(script.read_bytes())
            connection.execute(f"comment on schema pgflow is '{version}'")
        except psycopg.errors.LockNotAvailable:
            return False
        return True


def has(connection: Admin, function: str) -> bool:
    """Whether the core has a function of that name."""
    return connection.execute("select to_regproc(%s) is not null", (f"pgflow.{function}",)).fetchone() == (True,)


def claim_and_die(admin: Admin, slug: str, step: str | None = None) -> UUID:
    """A worker starts all tasks that are visible, a day ago, and is not heard of again.

    Of a `step` where each has a queue.
    """
    worker = uuid4()
    queue = slug if step is None else f"{slug}__{step}"
    admin.execute(
        "insert into pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at)"
        " values (%s, %s, %s, now() - interval '1 day')",
        (worker, queue, slug),
    )
    admin.execute(
        "select * from pgmq.read(%(queue)s, 600, 100) m, " + start_tasks(admin),
        {"slug": slug, "queue": queue, "step": step, "worker": worker},
    )
    make_old(admin, slug)
    return worker


@contextmanager
def new_role(admin: Admin) -> Iterator[str]:
    """One that has no right here."""
    name = f"least_{admin.info.dbname}"
    admin.execute(f"create role {name} login".encode())
    yield name
    admin.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s", (name,))
    admin.execute(f"drop owned by {name} cascade; drop role {name}".encode())


def start_tasks(admin: Admin) -> str:
    """A call of the core's start_tasks for message `m` of `%(queue)s`, by `%(worker)s`; its rows are `t`."""
    by_queue = admin.execute(
        "select 'queue_name' = any(proargnames) from pg_proc where oid::regproc::text = 'pgflow.start_tasks'"
    )
    queue = ", %(queue)s, %(step)s" if by_queue.fetchone() == (True,) else ""
    return f"pgflow.start_tasks(%(slug)s, array[m.msg_id], %(worker)s{queue}) t"


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
