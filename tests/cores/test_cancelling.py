"""A run that is cancelled is left as the core leaves one of which a task failed for good, on every core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.cores import by_steps as stepwise
from tests.cores.stand_in import Admin, start_tasks
from tests.fast_lane.rows import EVENTS

TEXT = "no longer wanted"
OTHER_EACH_TIME = ("run_id", "flow_slug", "queue_name", "message_id", "id", "msg_id", "topic", "last_worker_id", "vt")
"""What is not the same of two runs, of two flows perhaps."""


def flow_of(slug: str = "shop", **of_each: Any) -> pgflow.Flow:
    """A map of three, and what depends on it."""
    flow = pgflow.Flow(slug, max_attempts=1, base_delay=0)
    flow.step(slug="lines")(lambda given, ctx: [1, 2, 3])
    flow.map(slug="price", array="lines", **of_each)(lambda item, ctx: item)
    flow.step(slug="total", depends_on=["price"])(lambda deps, ctx: None)
    return flow


def half_done(admin: Admin, client: pgflow.PgflowClient, flow: pgflow.Flow, queues: Sequence[str] = ()) -> UUID:
    """A run of which a worker has completed an element and has another, while the third is queued."""
    run = client.start_flow(flow)
    for step, count, output in (("lines", 1, "[1, 2, 3]"), ("price", 2, "1")):
        claim(admin, flow.slug, count, step if queues else None)
        admin.execute("select pgflow.complete_task(%s, %s, 0, %s::jsonb)", (run.id, step, output))
    return run.id


def claim(admin: Admin, slug: str, count: int, step: str | None) -> None:
    """So many tasks are started by a worker of their own."""
    given = {"slug": slug, "queue": f"{slug}__{step}" if step else slug, "step": step, "worker": uuid4(), "qty": count}
    admin.execute(
        "insert into pgflow.workers (worker_id, queue_name, function_name) values (%(worker)s, %(queue)s, 'f')", given
    )
    admin.execute(f"select * from pgmq.read(%(queue)s, 600, %(qty)s) m, {start_tasks(admin)}".encode(), given)


def left_of(admin: Admin, run_id: UUID, *queues: str) -> dict[str, list[Any]]:
    """Every row of the run, messages and events included; of times only whether there is one."""
    tables = {"pgflow.runs": "run_id", "pgflow.step_states": "step_slug", "pgflow.step_tasks": "step_slug, task_index"}
    tables |= {"realtime.events": "id"}
    tables |= {f"pgmq.{kind}_{queue}": "message::text" for kind in "qa" for queue in queues}
    found: dict[str, list[Any]] = {}
    for table, order in tables.items():
        rows: list[Any] = admin.execute(
            f"select to_jsonb(t) from {table} t where to_jsonb(t)::text like %s order by {order}".encode(),
            (f"%{run_id}%",),
        ).fetchall()
        name = table[: len("pgmq.a")] if table.startswith("pgmq") else table
        found.setdefault(name, []).extend(plain(row) for (row,) in rows)
    return found


def plain(value: Any, key: str = "") -> Any:
    """Without what is another each time."""
    if isinstance(value, dict):
        return {name: plain(inner, name) for name, inner in value.items() if name not in OTHER_EACH_TIME}
    return value is not None if key.endswith("_at") else value


def keep_events(conninfo: str) -> None:
    """From now on."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute(EVENTS)


def test_every_row_is_as_the_core_leaves_it_when_a_task_has_failed_for_good(database: str, admin: Admin) -> None:
    keep_events(database)
    with pgflow.PgflowClient(database) as client:
        failed = half_done(admin, client, flow_of())
        admin.execute("select pgflow.fail_task(%s, 'price', 1, %s)", (failed, TEXT))
        cancelled = half_done(admin, client, flow_of())
        run = client.cancel(str(cancelled), TEXT)
        assert (run.status, run.error, client.run(failed).error) == ("failed", TEXT, TEXT)
    left = left_of(admin, cancelled, "shop")
    assert left == left_of(admin, failed, "shop")
    assert len(left["pgmq.a"]) == 4


def test_so_it_is_where_each_step_has_a_queue(queues_database: str, by_steps: Admin) -> None:
    keep_events(queues_database)
    by_steps.execute("update pgflow.flows set opt_max_attempts = 1")
    flow = stepwise.shop().flow
    with pgflow.PgflowClient(queues_database) as client:
        failed = half_done(by_steps, client, flow, stepwise.QUEUES)
        by_steps.execute("select pgflow.fail_task(%s, 'price', 1, %s)", (failed, TEXT))
        cancelled = half_done(by_steps, client, flow, stepwise.QUEUES)
        assert client.cancel(cancelled, TEXT).error == TEXT
    assert left_of(by_steps, cancelled, *stepwise.QUEUES) == left_of(by_steps, failed, *stepwise.QUEUES)
    assert stepwise.waiting(by_steps) == [0, 0, 0]


@pytest.mark.parametrize("mode", ["skip", "skip-cascade"])
def test_a_step_that_would_be_skipped_fails_the_run_all_the_same(newer_database: str, mode: Any) -> None:
    keep_events(newer_database)
    skipping = flow_of("skipping", when_exhausted=mode)
    with psycopg.connect(newer_database, autocommit=True) as admin, pgflow.PgflowClient(newer_database) as client:
        failed = half_done(admin, client, flow_of())
        admin.execute("select pgflow.fail_task(%s, 'price', 1, %s)", (failed, TEXT))
        cancelled = half_done(admin, client, skipping)
        assert client.cancel(cancelled, TEXT).error == TEXT
        left, meant = left_of(admin, cancelled, "skipping"), left_of(admin, failed, "shop")
    assert left == meant


def test_a_task_that_has_not_begun_keeps_its_attempts(database: str, admin: Admin) -> None:
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(flow_of())
        assert client.cancel(run.id).error == "cancelled"
        assert [step.status for step in run.steps()] == ["failed", "created", "created"]
    found = admin.execute("select status, attempts_count, started_at from pgflow.step_tasks").fetchall()
    assert found == [("failed", 0, None)]


def test_a_run_without_an_open_task_fails_with_the_step_that_is_next(database: str, admin: Admin) -> None:
    keep_events(database)
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(flow_of())
        admin.execute("delete from pgflow.step_tasks")
        assert client.cancel(run.id, TEXT).error == f"{TEXT} (step 'lines')"
        assert [step.status for step in run.steps()] == ["failed", "created", "created"]
    events = admin.execute("select event, payload ->> 'error_message' from realtime.events order by id").fetchall()
    assert events[-2:] == [("step:lines:failed", TEXT), ("run:failed", TEXT)]


def test_a_task_that_the_core_gave_up_as_stalled_fails_its_run(newer_database: str) -> None:
    with psycopg.connect(newer_database, autocommit=True) as admin, pgflow.PgflowClient(newer_database) as client:
        run = client.start_flow(flow_of())
        claim(admin, "shop", 1, None)
        admin.execute("select pgmq.archive('shop', message_id) from pgflow.step_tasks")
        assert client.cancel(run.id).status == "failed"


def test_a_run_that_has_ended_stays_as_it_is(database: str, admin: Admin) -> None:
    keep_events(database)
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(flow_of())
        first = client.cancel(run.id, TEXT)
        before = left_of(admin, run.id, "shop")
        assert client.cancel(run.id, "another") == first
    assert left_of(admin, run.id, "shop") == before
