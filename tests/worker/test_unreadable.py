"""Values that PostgreSQL stores and Python cannot express: None with a note there, and nobody else's trouble."""

from __future__ import annotations

import math
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support.starters import echo_job, opened, running
from tests.support.waiting import eventually

WAIT = 20.0
TOO_DEEP = "(repeat('[', 12000) || repeat(']', 12000))::jsonb"
TIMES = {
    "infinity": "infinity",
    "-infinity": "-infinity",
    "99999-01-01 00:00:00+00": "3093496444800 seconds from 1970",
    "0044-03-15 00:00:00+00 BC": "-63517824000 seconds from 1970",
}

Admin = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def _spoil(admin: Admin, run: UUID, assignment: str, table: str = "runs") -> None:
    """Even what the core's own constraints would not let pass."""
    constraints = admin.execute(
        "select conname from pg_constraint where conrelid = %s::regclass and contype = 'c'", (f"pgflow.{table}",)
    ).fetchall()
    for (name,) in constraints:
        admin.execute(f"alter table pgflow.{table} drop constraint {name}")
    admin.execute(f"update pgflow.{table} set {assignment} where run_id = %s", (run,))


@pytest.mark.parametrize("time", TIMES)
def test_a_time_that_python_has_not_is_none_with_a_note_there(database: str, admin: Admin, time: str) -> None:
    job = echo_job()
    note = f"started_at cannot be read: it is beyond what a datetime can express ({TIMES[time]})"
    with running(database, jobs=[job]) as starter:
        client = starter.client
        bad, good = client.enqueue(job, 1).wait(WAIT), client.enqueue(job, 2).wait(WAIT)
        for table in ("runs", "step_states"):
            _spoil(admin, bad.id, f"started_at = '{time}', completed_at = '{time}'", table)
        run = client.run(bad.id)
        assert (run.status, run.output, run.started_at, run.ended_at) == ("completed", {"echo": 1}, None, None)
        assert run.notes == (note, note.replace("started", "ended"))
        (step,) = run.steps()
        assert (step.output, step.started_at, step.ended_at, step.notes) == (1, None, None, run.notes)
        listed = {r.id: r for r in client.recent_runs()}
        assert (listed[bad.id].started_at, listed[bad.id].ended_at, listed[bad.id].notes) == (None, None, run.notes)
        assert (listed[good.id].started_at, listed[good.id].notes) == (good.started_at, ())
        assert client.run(good.id) == good


def test_a_run_whose_beginning_cannot_be_read_is_started_again_and_waited_for_as_any(
    database: str, admin: Admin
) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        bad, good = client.enqueue_many(job, [1, 2])
        _spoil(admin, bad.id, "started_at = 'infinity'")
        again = client.enqueue(job, 1, run_id=bad.id)
        assert (again.started_at, len(again.notes)) == (None, 1)
        with running(database, jobs=[job]):
            assert [run.wait(WAIT).result for run in (good, bad)] == [2, 1]


def test_a_message_that_never_becomes_visible_is_no_trouble_to_its_queue_nor_to_others(
    database: str, admin: Admin
) -> None:
    jobs = [echo_job("never"), echo_job("other")]
    with opened(database, jobs=jobs) as (starter, runtime):
        starter.await_ready(WAIT)
        cells = {cell.definition.slug: cell for cell in runtime.parts.workers.cells()}
        admin.execute("insert into pgmq.q_never (vt, message) values ('infinity', '{}')")
        claimed = eventually(cells["never"].claims.claim, what="a claim, none other being under way")
        assert claimed is not None
        assert claimed.visible_in == math.inf
        wired = [cells[slug].claims.wired_as for slug in ("never", "other")]
        assert PostgresTaskStore(runtime.parts.database).look(wired) == [math.inf, None]
        assert starter.client.enqueue("never", 1).wait(WAIT).result == 1


def test_an_output_that_python_cannot_read_is_the_trouble_of_its_own_waiter(database: str, admin: Admin) -> None:
    flow = pgflow.Flow("pair")
    flow.step("one")(lambda given, ctx: [given])
    flow.step("two", depends_on=["one"])(lambda deps, ctx: deps)
    with running(database, flows=[flow]) as starter:
        client = starter.client
        bad = client.start_flow(flow, 1)
        bad.wait(WAIT)
        _spoil(admin, bad.id, f"output = {TOO_DEEP}")
        _spoil(admin, bad.id, f"output = {TOO_DEEP}, completed_at = now()", "step_tasks")
        with pytest.raises(pgflow.PgflowError, match=r"the output of run .* cannot be read: RecursionError"):
            bad.wait(WAIT)
        assert client.start_flow(flow, 2).wait(WAIT).status == "completed"
        assert [r.status for r in client.recent_runs()] == ["completed", "completed"]
        steps = client.steps(bad.id)
    assert [(s.slug, s.status, s.output) for s in steps] == [("one", "completed", None), ("two", "completed", None)]
    assert steps[0].notes[0].startswith("output cannot be read: RecursionError")
