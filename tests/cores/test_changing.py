"""Options of a stored flow changed, and flows deleted with all they have, on every core."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.postgres.setup import changing
from pgflow_starter.postgres.setup.deleting import delete_flow, holdings
from pgflow_starter.postgres.setup.syncing import sync
from pgflow_starter.postgres.stores.flows import compile_flow
from tests.cores.stand_in import Admin
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

TABLES = ("step_tasks", "step_states", "runs", "deps", "steps", "flows")


def fan(**options: Any) -> pgflow.Flow:
    """A step, a map over what it returns, and a step on that."""
    flow = pgflow.Flow("fan", **options)
    flow.step(slug="items")(lambda given, ctx: list(range(given)))
    flow.map(slug="each", array="items")(lambda item, ctx: item + 1)
    flow.step(slug="total", depends_on=["each"])(lambda deps, ctx: sum(deps["each"]))
    return flow


def rows(admin: Admin, slug: str) -> Counter[str]:
    """How many there are of the flow in each table, and of its queue."""
    counts = Counter[str]()
    for table in TABLES:
        found = admin.execute(f"select count(*) from pgflow.{table} where flow_slug = %s".encode(), (slug,)).fetchone()
        assert found is not None
        counts[table] = int(str(found[0]))
    found = admin.execute(
        "select (select count(*) from pg_class c where c.relnamespace = 'pgmq'::regnamespace and c.relkind = 'r'"
        " and c.relname in ('q_' || %(slug)s, 'a_' || %(slug)s))"
        " + (select count(*) from pgmq.meta where queue_name = %(slug)s)",
        {"slug": slug},
    ).fetchone()
    assert found is not None
    counts["queue"] = int(str(found[0]))
    return +counts


@contextmanager
def held(conninfo: str, statement: str) -> Iterator[Admin]:
    """A transaction that was left open."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(statement.encode())
        yield connection
        connection.rollback()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is locked is given up the first time."""
    monkeypatch.setattr(changing, "PATIENCE", 0.0)


def test_options_that_are_synced_are_those_of_the_code_and_count_in_runs_under_way(
    database: str, admin: Admin, release: threading.Event
) -> None:
    tried: list[int] = []

    def failing(max_attempts: int) -> pgflow.Job:
        @pgflow.job("failing", max_attempts=max_attempts, base_delay=0)
        def handler(message: Any, ctx: pgflow.TaskContext) -> Any:
            tried.append(ctx.attempt)
            release.wait()
            raise ValueError(message)

        return handler

    with running(database, jobs=[failing(1)]) as starter:
        starter.await_ready(20)
        run = starter.client.enqueue("failing", 1)
        eventually(lambda: tried)
        changes = sync(database, definition_of(failing(3)))
        assert changes == [(None, "max_attempts", 1, 3)]
        release.set()
        assert run.wait(20).status == "failed"
    assert tried == [1, 2, 3]
    assert sync(database, definition_of(failing(3))) == []
    assert not compile_flow(admin, definition_of(failing(3))).options_differ


def test_every_option_of_the_flow_and_of_its_steps_is_synced(database: str, admin: Admin) -> None:
    def declared(flow: dict[str, int], step: dict[str, Any]) -> pgflow.FlowDefinition:
        made = pgflow.Flow("every", **flow)
        made.step(slug="one", **step)(lambda given, ctx: given)
        made.step(slug="other")(lambda given, ctx: given)
        return made.__pgflow_definition__()

    compile_flow(admin, declared({}, {"timeout": 7}))
    wanted = declared(
        {"max_attempts": 4, "base_delay": 6, "timeout": 61},
        {"max_attempts": 5, "base_delay": 0, "start_delay": 8},
    )
    told = sync(database, wanted, dry_run=True)
    assert compile_flow(admin, wanted).options_differ
    assert sync(database, wanted) == told
    assert told == [
        (None, "max_attempts", 3, 4),
        (None, "base_delay", 5, 6),
        (None, "timeout", 60, 61),
        ("one", "max_attempts", None, 5),
        ("one", "base_delay", None, 0),
        ("one", "timeout", 7, None),
        ("one", "start_delay", None, 8),
    ]
    assert compile_flow(admin, wanted).differences == ()
    assert sync(database, wanted) == []


def test_another_shape_is_not_synced(database: str, admin: Admin) -> None:
    compile_flow(admin, definition_of(fan()))
    other = pgflow.Flow("fan", timeout=7)
    other.step(slug="items")(lambda given, ctx: given)
    with pytest.raises(pgflow.ShapeMismatchError) as refused:
        sync(database, other.__pgflow_definition__())
    assert str(refused.value).startswith("only options can be synced, and flow 'fan' in the database has another shape")
    assert "step 'each' is in the database only" in str(refused.value)
    assert "`pgflow-starter flow delete fan`" in str(refused.value)
    assert not compile_flow(admin, definition_of(fan())).options_differ


def test_a_flow_is_deleted_with_all_it_has_and_no_other(database: str, admin: Admin) -> None:
    echo = echo_job()
    with running(database, flows=[fan(max_attempts=1)], jobs=[echo]) as starter:
        starter.await_ready(20)
        runs = [starter.client.start_flow("fan", 2), starter.client.start_flow("fan", "no number")]
        assert [run.wait(20).status for run in runs] == ["completed", "failed"]
        assert starter.client.enqueue(echo, 1).wait(20).status == "completed"
    admin.execute("select pgflow.start_flow('fan', '3'), pgflow.start_flow('echo', '3')")
    found = holdings(database, "fan")
    assert (found.steps, found.runs, found.unfinished) == (3, {"completed": 1, "failed": 1, "started": 1}, 1)
    assert (found.queued, found.workers) == (1, [])
    assert found.archived >= 4
    before = rows(admin, "echo")
    assert delete_flow(database, "fan") == 3
    assert rows(admin, "fan") == {}
    assert rows(admin, "echo") == before
    assert compile_flow(admin, definition_of(fan())).created


@pytest.mark.parametrize("delete", [holdings, delete_flow])
def test_a_flow_that_is_not_there_is_told_once(database: str, delete: Any) -> None:
    with pytest.raises(pgflow.UnknownFlowError, match=r"^flow 'nothing' is not in database 't"):
        delete(database, "nothing")


def test_the_queues_of_steps_go_and_another_queue_of_the_flows_name_stays(queues_database: str) -> None:
    steps: list[dict[str, Any]] = [
        {"slug": slug, "stepType": "single", "dependencies": []} for slug in ("pick", "pack")
    ]
    shape = {"steps": steps, "options": {"maxAttempts": 3, "baseDelay": 5, "timeout": 60}}
    with psycopg.connect(queues_database, autocommit=True) as admin:
        admin.execute("select pgflow.ensure_flow_compiled('fan', %s, 'step')", (Jsonb(shape),))
        admin.execute("select pgmq.create('fan')")
        admin.execute("select pgmq.send(queue, '{}') from unnest('{fan,fan__pick,fan__pack}'::text[]) queue")
        assert holdings(queues_database, "fan").queued == 2
        delete_flow(queues_database, "fan")
        left = admin.execute("select queue_name from pgmq.list_queues()").fetchall()
        assert [row[0] for row in left] == ["fan"]


def test_a_flow_of_another_runtime_may_have_capitals(database: str, admin: Admin) -> None:
    admin.execute("select pgflow.create_flow('shipOut'), pgflow.add_step('shipOut', 'pickUp')")
    admin.execute("select pgflow.start_flow('shipOut', '1')")
    assert holdings(database, "shipOut").queued == 1
    assert delete_flow(database, "shipOut") == 1
    assert admin.execute("select count(*) from pgmq.list_queues()").fetchone() == (0,)


def test_who_is_alive_is_told_and_who_is_not_is_not(database: str, admin: Admin) -> None:
    compile_flow(admin, definition_of(echo_job()))
    theirs, gone = uuid4(), uuid4()
    admin.execute(
        "insert into pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at)"
        " values (%s, 'echo', 'edge', now() - interval '100 s'), (%s, 'echo', 'edge', now() - interval '1 hour')",
        (theirs, gone),
    )
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(20)
        ours, edge = holdings(database, "echo").workers
        assert (ours.worker_id, ours.ours) == (starter.workers()[0].worker_id, True)
        assert (edge.worker_id, edge.function_name, edge.ours) == (theirs, "edge", False)
        assert ours.heard < 60 < edge.heard
    assert [w.worker_id for w in holdings(database, "echo").workers] == [theirs]


def test_a_flow_is_deleted_under_load_and_a_starter_that_has_it_makes_it_anew(database: str) -> None:
    over = threading.Event()

    def load(client: pgflow.PgflowClient) -> None:
        while not over.is_set():
            with suppress(pgflow.PgflowError):
                client.start_flows("fan", [3] * 5)

    with running(database, flows=[fan()]) as starter, pgflow.PgflowClient(database) as client:
        starter.await_ready(20)
        loading = threading.Thread(target=load, args=(client,))
        loading.start()
        try:
            for _ in range(3):
                eventually(lambda: holdings_or_none(database))
                assert delete_flow(database, "fan") > 0
        finally:
            over.set()
            loading.join()
        eventually(lambda: starter.status().ready and all(w.alive for w in starter.workers()))
        run = eventually(lambda: started(starter))
        assert run is not None
        assert run.wait(20).result == 6


def started(starter: pgflow.Starter) -> pgflow.Run | None:
    with suppress(pgflow.UnknownFlowError):
        return starter.client.start_flow("fan", 3)
    return None


def holdings_or_none(conninfo: str) -> int:
    """Runs that are completed, where there are such."""
    try:
        return holdings(conninfo, "fan").runs.get("completed", 0)
    except pgflow.UnknownFlowError:
        return 0


def test_of_two_who_delete_it_at_once_one_is_told_that_it_is_gone(database: str, admin: Admin) -> None:
    for _ in range(5):
        compile_flow(admin, definition_of(fan()))
        admin.execute("select pgflow.start_flow('fan', '3') from generate_series(1, 20)")
        with ThreadPoolExecutor(2) as pool:
            done: list[Future[int]] = [pool.submit(delete_flow, database, "fan") for _ in range(2)]
        errors = [future.exception() for future in done]
        assert sorted(type(error).__name__ for error in errors) == ["NoneType", "UnknownFlowError"]
        assert [future.result() for future, error in zip(done, errors, strict=True) if error is None] == [20]


LOCKS = {
    "flow": "select pg_advisory_xact_lock(1, hashtext('fan'))",
    "run": "select from pgflow.runs where flow_slug = 'fan' for update",
    "start": "select pgflow.start_flow('fan', '3')",
    "queue": "lock table pgmq.q_fan",
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lock", LOCKS)
def test_what_somebody_has_locked_is_not_deleted_and_nothing_waits_for_ever(
    database: str, admin: Admin, lock: str
) -> None:
    compile_flow(admin, definition_of(fan()))
    admin.execute("select pgflow.start_flow('fan', '3')")
    before = rows(admin, "fan")
    with held(database, LOCKS[lock]):
        with pytest.raises(pgflow.DatabaseError, match="nothing was changed: somebody has locked flow 'fan'") as error:
            delete_flow(database, "fan")
        assert error.value.locked
        if lock == "flow":
            with pytest.raises(pgflow.DatabaseError, match="nothing was changed: somebody has locked flow 'fan'"):
                sync(database, definition_of(fan(timeout=7)))
    assert rows(admin, "fan") == before
    assert delete_flow(database, "fan") == 1


def test_what_is_locked_for_a_moment_is_waited_for(database: str, admin: Admin) -> None:
    compile_flow(admin, definition_of(fan()))
    with held(database, LOCKS["flow"]) as other, ThreadPoolExecutor(1) as pool:
        done = pool.submit(delete_flow, database, "fan")
        eventually(
            lambda: (
                admin.execute("select count(*) from pg_locks where locktype = 'advisory' and not granted").fetchone()
                == (1,)
            )
        )
        other.rollback()
        assert done.result() == 0
