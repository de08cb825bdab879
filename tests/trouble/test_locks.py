"""Whatever somebody locks, for however long: nothing is stranded, nothing piles up, and nobody else waits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter import DatabaseError
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import Admin, Backends, started, statuses

WAIT = 30.0
TABLES = ("pgflow.runs", "pgflow.step_tasks", "pgflow.step_states", "pgflow.workers", "pgmq.q_seen")
POOL = 4


def seen_job(seen: Counter[Any]) -> pgflow.Job:
    @pgflow.job("seen")
    def handler(message: Any, ctx: pgflow.TaskContext) -> Any:
        seen[ctx.run_id] += 1
        return message

    return handler


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_was_locked_for_long_leaves_nothing_stranded_and_nothing_ran_twice(
    soon: str, admin: Admin, backends: Backends, table: str, strategy: str
) -> None:
    seen: Counter[Any] = Counter()
    job = seen_job(seen)
    errors: list[DatabaseError] = []
    with (
        running(soon, jobs=[job], signal_strategy=strategy, pool_size=POOL) as starter,
        psycopg.connect(admin.info.dsn) as holder,
    ):
        starter.await_ready(WAIT)
        starter.client.enqueue_many(job, range(30))
        holder.execute(f"lock table {table} in access exclusive mode")
        told = threading.Event()

        def call(number: int) -> None:
            while not told.is_set():
                try:
                    starter.client.enqueue(job, number)
                except DatabaseError as error:
                    errors.append(error)
                    told.set()
                if table == "pgflow.workers":  # which starts no run
                    break

        callers = [threading.Thread(target=call, args=(i,)) for i in range(3 * POOL)]
        for caller in callers:
            caller.start()
        if table == "pgflow.workers":
            eventually(lambda: _waits_for_locks(admin) > 1, WAIT)
        else:
            assert told.wait(WAIT)
        holder.rollback()
        for caller in callers:
            caller.join(WAIT)
        eventually(lambda: set(statuses(admin)) == {"completed"}, WAIT, "the end of all runs")
        assert started(admin) == 0
    assert set(seen.values()) == {1}
    assert len(seen) == statuses(admin)["completed"]
    assert backends.most <= POOL + 3
    assert {error.sqlstate for error in errors} <= {"55P03", "57014"}
    assert not any(error.unknown for error in errors)


def _waits_for_locks(admin: Admin) -> int:
    """Statements of ours that somebody's lock has ended until now."""
    row = admin.execute("select sum(xact_rollback) from pg_stat_database where datname = current_database()").fetchone()
    return int(row[0]) if row and row[0] else 0


@pytest.mark.parametrize("table", ["runs", "step_states", "step_tasks"])
def test_a_run_that_somebody_has_locked_is_written_when_it_is_released_and_the_others_meanwhile(
    soon: str, admin: Admin, table: str, release: threading.Event
) -> None:
    entered = threading.Event()

    @pgflow.job("held")
    def held(message: Any, ctx: pgflow.TaskContext) -> Any:
        if message == "held":
            entered.set()
            release.wait()
        return message

    with running(soon, jobs=[held]) as starter, psycopg.connect(admin.info.dsn) as holder:
        starter.await_ready(WAIT)
        run = starter.client.enqueue(held, "held")
        assert entered.wait(WAIT)
        holder.execute(f"select from pgflow.{table} where run_id = %s for update", (run.id,))
        release.set()
        for number in range(20):
            assert starter.client.enqueue(held, number).wait(WAIT).result == number
        assert run.refresh().status == "started"
        (worker,) = starter.workers()
        eventually(lambda: starter.workers()[0].unwritten == 1)
        assert worker.alive
        holder.rollback()
        assert run.wait(WAIT).result == "held"


def test_a_failure_in_a_run_that_somebody_has_locked_waits_alone_too(
    soon: str, admin: Admin, release: threading.Event
) -> None:
    entered = threading.Event()

    @pgflow.job("fails", max_attempts=1)
    def fails(message: Any, ctx: pgflow.TaskContext) -> Any:
        if message == "held":
            entered.set()
            release.wait()
        raise pgflow.PermanentError("no")

    with running(soon, jobs=[fails]) as starter, psycopg.connect(admin.info.dsn) as holder:
        starter.await_ready(WAIT)
        run = starter.client.enqueue(fails, "held")
        assert entered.wait(WAIT)
        holder.execute("select from pgflow.runs where run_id = %s for update", (run.id,))
        release.set()
        for number in range(10):
            assert starter.client.enqueue(fails, number).wait(WAIT).status == "failed"
        assert run.refresh().status == "started"
        holder.rollback()
        assert run.wait(WAIT).status == "failed"


def test_a_queued_task_that_somebody_has_locked_starts_when_it_is_released_and_the_others_meanwhile(
    soon: str, admin: Admin
) -> None:
    job = echo_job()
    with pgflow.PgflowClient(soon) as client, psycopg.connect(admin.info.dsn) as holder:
        run = client.enqueue(job, "locked")
        holder.execute("select from pgflow.step_tasks for update")
        with running(soon, jobs=[job]) as starter:
            for number in range(20):
                assert starter.client.enqueue(job, number).wait(WAIT).result == number
            assert run.refresh().status == "started"
            holder.rollback()
            assert run.wait(WAIT).result == "locked"


@pytest.mark.parametrize("ending", [lambda holder: None, lambda holder: holder.rollback()], ids=["held", "released"])
def test_a_stop_while_a_finished_tasks_run_is_locked_writes_it_or_gives_it_back(
    soon: str, admin: Admin, ending: Callable[[Any], None], release: threading.Event
) -> None:
    entered = threading.Event()

    @pgflow.job("kept")
    def kept(message: Any, ctx: pgflow.TaskContext) -> Any:
        entered.set()
        release.wait()
        return message

    with psycopg.connect(admin.info.dsn) as holder:
        with running(soon, jobs=[kept], shutdown_timeout=0.7) as starter:
            starter.await_ready(WAIT)
            run = starter.client.enqueue(kept, 1)
            assert entered.wait(WAIT)
            holder.execute("select from pgflow.runs where run_id = %s for update", (run.id,))
            release.set()
            eventually(lambda: starter.workers()[0].unwritten == 1)
            ending(holder)
        rows = admin.execute("select status, attempts_count from pgflow.step_tasks").fetchall()
    assert rows in ([("queued", 0)], [("completed", 1)])


def test_many_runs_of_which_a_row_is_locked_hold_up_no_other(soon: str, admin: Admin, release: threading.Event) -> None:
    entered = threading.Semaphore(0)

    @pgflow.job("held", max_concurrency=12)
    def held(message: Any, ctx: pgflow.TaskContext) -> Any:
        if message == "held":
            entered.release()
            release.wait()
        return message

    with running(soon, jobs=[held]) as starter, psycopg.connect(admin.info.dsn) as holder:
        starter.await_ready(WAIT)
        runs = starter.client.enqueue_many(held, ["held"] * 9)
        for _ in runs:
            assert entered.acquire(timeout=WAIT)
        holder.execute("select from pgflow.step_tasks for update")
        release.set()
        for number in range(10):
            assert starter.client.enqueue(held, number).wait(WAIT).result == number
        assert starter.workers()[0].unwritten == 9
        holder.rollback()
        assert [run.wait(WAIT).result for run in runs] == ["held"] * 9


def test_outcomes_of_one_run_that_are_refused_stop_no_worker(soon: str, admin: Admin) -> None:
    flow = pgflow.Flow("refused", base_delay=0)

    @flow.map()
    def each(item: Any, ctx: pgflow.TaskContext) -> Any:
        return item

    with running(soon, flows=[flow], shutdown_timeout=0.5) as starter:
        starter.await_ready(WAIT)
        admin.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin"
            " raise exception 'no' using errcode = '23505'; end $$"
        )
        admin.execute(
            "create trigger refuse before update on pgflow.step_tasks for each row"
            " when (new.status = 'completed' and new.output = '\"poison\"') execute function refuse()"
        )
        bad = starter.client.start_flow(flow, ["poison"] * 60)
        eventually(lambda: starter.workers()[0].unwritten >= 40, WAIT)
        for number in range(5):
            assert starter.client.start_flow(flow, [number]).wait(WAIT).result == [number]
        admin.execute("drop trigger refuse on pgflow.step_tasks")
        assert bad.wait(WAIT).status == "completed"


def test_a_task_that_is_locked_for_a_moment_while_the_starter_stops_is_given_back(
    soon: str, admin: Admin, release: threading.Event
) -> None:
    entered = threading.Event()

    @pgflow.job("slow", max_attempts=1)
    def slow(message: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait()

    try:
        with psycopg.connect(admin.info.dsn) as holder:
            with running(soon, jobs=[slow], shutdown_timeout=0.1) as starter:
                starter.await_ready(WAIT)
                starter.client.enqueue(slow)
                assert entered.wait(WAIT)
                holder.execute("select from pgflow.step_tasks for update")
                threading.Timer(0.4, holder.rollback).start()
            rows = admin.execute("select status, attempts_count from pgflow.step_tasks").fetchall()
        assert rows == [("queued", 0)]
    finally:
        release.set()
