"""What somebody does to the queues: purges them, fills them with what is nobody's, works at them beside us."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

import pgflow_starter as pgflow
from tests.chaos.modules import TARGETS
from tests.chaos.neighbour import Neighbour
from tests.chaos.world import Fault, World

Admin = psycopg.Connection[tuple[Any, ...]]

QUEUES = tuple(sorted(set(TARGETS)))
FOREIGN = (100, 500)
"""Messages that no task has."""

BACKLOG = 200
"""Runs that are started just before a queue is purged: the workers leave it empty."""

TRIES = 50
_OPEN = """
select distinct run_id, t.status from pgflow.step_tasks t join pgflow.runs r using (run_id)
where r.status = 'started' and t.status in ('queued', 'started') and t.flow_slug = %s
"""
_LOST = """
select distinct t.run_id from pgflow.step_tasks t
where t.status = 'queued' and t.flow_slug = {slug} and t.run_id = any(%s)
  and not exists (select from pgmq.{queue} q where q.msg_id = t.message_id)
"""
_DELETE = ("step_tasks", "step_states", "runs")


def _purge(world: World, longest: float) -> None:
    slug = world.random.choice(QUEUES)
    _fill(world, slug)
    with world.direct() as admin:
        admin.execute("set lock_timeout = '2s'")
        for _ in range(TRIES):
            try:
                with admin.transaction():
                    _purge_queue(world, admin, slug)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
                world.ledger.count("purges that met a lock")
                continue
            return
    raise AssertionError(f"{TRIES} tries did not purge {slug}")


def _fill(world: World, slug: str) -> None:
    """More than the workers can be done with before it is purged."""
    try:
        runs = world.random.choice(world.starters).client.start_flows(slug, range(BACKLOG))
    except pgflow.PgflowError:
        world.ledger.count("refused: a backlog")
    else:
        for run in runs:
            world.ledger.returned(run.id)


def _purge_queue(world: World, admin: Admin, slug: str) -> None:
    """With the queue locked first, nothing is sent and nothing claimed until all this is committed."""
    admin.execute(sql.SQL("lock table pgmq.{} in access exclusive mode").format(sql.Identifier(f"q_{slug}")))
    admin.execute("select pgmq.purge_queue(%s)", (slug,))
    tasks = admin.execute(_OPEN, (slug,)).fetchall()
    lost = {run_id for run_id, status in tasks if status == "queued"}
    # Told before it is committed. What has been started may come to its end, and fails where its worker dies.
    world.ledger.forget({run_id for run_id, _ in tasks})
    delete(admin, lost)
    world.ledger.count("runs purged", len(lost))


def sweep(admin: Admin, run_ids: set[UUID]) -> None:
    """Of these runs delete those that wait for a message that was purged: a task may have been given back since."""
    for slug in QUEUES:
        statement = sql.SQL(_LOST).format(slug=sql.Literal(slug), queue=sql.Identifier(f"q_{slug}"))
        delete(admin, {row[0] for row in admin.execute(statement, (list(run_ids),))})


def delete(admin: Admin, run_ids: set[UUID]) -> None:
    """Delete the runs, and all that is of them."""
    for table in _DELETE:
        statement = sql.SQL("delete from pgflow.{} where run_id = any(%s)").format(sql.Identifier(table))
        admin.execute(statement, (list(run_ids),))


def _send_foreign(world: World, longest: float) -> None:
    slug, number = world.random.choice(QUEUES), world.random.randint(*FOREIGN)
    orphan = {"flow_slug": slug, "run_id": str(UUID(int=0)), "step_slug": slug, "task_index": 0}
    messages = [Jsonb(world.random.choice(({"foreign": n}, orphan, [n], n))) for n in range(number)]
    with world.direct() as admin:
        admin.execute("select count(*) from pgmq.send_batch(%s, %s::jsonb[])", (slug, messages))
    world.ledger.count("messages sent that are nobody's", number)
    world.hold(longest)


def _neighbour(world: World, longest: float) -> None:
    with world.direct() as connection:
        neighbour = Neighbour(connection, world.ledger)
        neighbour.work(QUEUES, world.random.uniform(longest / 2, longest))


QUEUE_FAULTS: dict[str, Fault] = {"purge a queue": _purge, "foreign messages": _send_foreign, "neighbour": _neighbour}
