"""What a hostile reader tried: messages, locks and signals that must harm nobody else."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
import time
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.programs import finished
from tests.support.starters import QUICK, echo_job, opened, running
from tests.support.waiting import eventually


@pytest.mark.parametrize("poison", ["1e5000::numeric::text", "repeat('[', 12000) || repeat(']', 12000)"])
def test_an_input_that_python_cannot_read_fails_its_own_task_only(database: str, poison: str) -> None:
    job, other = echo_job("poisoned"), echo_job("innocent")
    with running(database, jobs=[job, other]) as starter, psycopg.connect(database, autocommit=True) as admin:
        starter.await_ready(10)
        row = admin.execute(f"select run_id from pgflow.start_flow('poisoned', ({poison})::jsonb)").fetchone()
        assert row is not None

        def ended() -> Any:
            return admin.execute(
                "select status from pgflow.runs where run_id = %s and status <> 'started'", row
            ).fetchone()

        assert eventually(ended) == ("failed",)
        with pytest.raises(pgflow.PgflowError, match="cannot be read"):
            starter.client.run(row[0])
        assert starter.client.enqueue(other, 1).wait(10).result == 1
        assert all(child.restarts == 0 for child in starter.which_children())


def test_a_run_that_somebody_holds_stops_neither_heartbeats_nor_sweeps(database: str) -> None:
    quick = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
    job = echo_job("held")
    with pgflow.PgflowClient(database) as client, psycopg.connect(database, autocommit=True) as admin:
        run = client.enqueue(job, 1)
        long_ago = "now() - interval '1 day'"
        admin.execute(
            f"update pgflow.step_tasks set status = 'started', queued_at = {long_ago}, started_at = {long_ago}"
        )
        with psycopg.connect(database) as holder, running(database, jobs=[job], **quick) as starter:
            holder.execute("select from pgflow.runs for update")
            starter.await_ready(10)
            before = _heartbeat(admin)
            eventually(lambda: _heartbeat(admin) != before, what="a heartbeat")
            holder.rollback()
            assert run.wait(10).result == 1


def test_stop_gives_back_in_time_although_the_workers_rows_are_locked(database: str, release: threading.Event) -> None:
    entered = threading.Event()

    @pgflow.job("kept")
    def kept(message: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait()

    starter = pgflow.start(database, jobs=[kept], **{**QUICK, "heartbeat_interval": 0.1, "stale_threshold": 5})
    starter.client.enqueue(kept)
    assert entered.wait(10)
    with psycopg.connect(database) as holder, psycopg.connect(database, autocommit=True) as admin:
        holder.execute("select from pgflow.workers for update")
        began = time.monotonic()
        starter.stop(timeout=0.5)
        assert time.monotonic() - began < 3
        eventually(lambda: admin.execute("select 1 from pgflow.step_tasks where status = 'queued'").fetchone())
    release.set()
    starter.stop()


def test_a_tasks_own_timeout_counts_while_the_starter_stops(database: str, release: threading.Event) -> None:
    entered = threading.Event()

    @pgflow.job("slow", timeout=1, max_attempts=1)
    def slow(message: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait()

    starter = pgflow.start(database, jobs=[slow], **QUICK)
    run = starter.client.enqueue(slow)
    assert entered.wait(10)
    began = time.monotonic()
    starter.stop(timeout=20)
    assert time.monotonic() - began < 5
    with pgflow.PgflowClient(database) as client:
        assert client.run(run.id).status == "failed"
    release.set()


def test_a_retry_that_a_former_starter_scheduled_is_found_when_it_is_due(database: str) -> None:
    @pgflow.job("later", max_attempts=2, base_delay=1)
    def later(message: Any, ctx: pgflow.TaskContext) -> int:
        if ctx.attempt == 1:
            raise RuntimeError
        return ctx.attempt

    with running(database, jobs=[later], signal_strategy="notify") as first:
        run = first.client.enqueue(later)
        with psycopg.connect(database, autocommit=True) as admin:
            eventually(lambda: admin.execute("select 1 from pgflow.step_tasks where error_message <> ''").fetchone())
    with running(database, jobs=[later], signal_strategy="notify", notify_fallback_interval=600) as second:
        assert second.client.run(run.id).wait(10).result == 2


def test_handlers_run_no_further_ahead_of_what_is_written_than_three_tasks_a_slot(database: str) -> None:
    ran: list[Any] = []

    @pgflow.job("ahead", max_concurrency=4)
    def ahead(message: Any, ctx: pgflow.TaskContext) -> None:
        ran.append(message)

    with pgflow.PgflowClient(database) as client, psycopg.connect(database) as holder:
        runs = [client.enqueue(ahead, i) for i in range(60)]
        with opened(database, jobs=[ahead]) as (_, runtime):
            eventually(lambda: ran)
            holder.execute("lock table pgmq.a_ahead")  # completions wait, claims do not
            cell = eventually(runtime.parts.workers.cells)[0]
            eventually(lambda: len(ran) == 60 or len(cell.outbox) >= 8)
            assert len(cell.outbox) <= 12
            holder.rollback()
            assert all(run.wait(20).status == "completed" for run in runs)
    assert len(ran) == 60


def test_waiting_for_a_run_ends_in_time_although_the_table_is_locked(database: str) -> None:
    with pgflow.PgflowClient(database) as client, psycopg.connect(database) as holder:
        run = client.enqueue(echo_job(), 1)
        holder.execute("lock table pgflow.runs")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            run.wait(0.3)
        assert time.monotonic() - began < 3


FUZZ = """
import signal, sys, threading, time
import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
jobs = [pgflow.job(f"j{i}")(lambda message, ctx: message) for i in range(20)]
starter = pgflow.start(sys.argv[1], jobs=jobs)
starter.await_ready(20)
inside = []
def handler(*_):
    if not inside:
        inside.append(1)
        starter.stop(0.5)
        inside.clear()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
deadline = time.monotonic() + 2
while time.monotonic() < deadline:
    starter.stop(0.5)
signal.setitimer(signal.ITIMER_REAL, 0)
print("done", flush=True)
"""


def test_stopping_on_top_of_stopping_from_a_signal_handler_never_hangs(database: str) -> None:
    with subprocess.Popen([sys.executable, "-c", FUZZ, database], stdout=subprocess.PIPE, text=True) as script:
        try:
            out, _ = script.communicate(timeout=40)
        finally:
            script.kill()
        assert out == "done\n"


INTERRUPTED = """
import os, signal, sys, threading, time
import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
entered = threading.Event()
@pgflow.job("slow")
def slow(message, ctx):
    entered.set()
    ctx.cancelled.wait(1.5)
starter = pgflow.start(sys.argv[1], jobs=[slow])
run = starter.client.enqueue(slow)
assert entered.wait(20)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    starter.stop(20)
except KeyboardInterrupt:
    starter.stop(20)
    ours = [t for t in threading.enumerate() if t.name.startswith("pgflow")]
    for thread in ours:
        thread.join(5)  # the client's ends by itself, right after
    print("stopped", sorted(t.name for t in ours if t.is_alive()), flush=True)
"""


def test_a_stop_that_was_interrupted_can_be_called_again_and_waits(database: str) -> None:
    done = finished("-c", INTERRUPTED, database)
    assert done.stdout == "stopped []\n", done.stderr
    with psycopg.connect(database) as admin:
        assert admin.execute("select status from pgflow.runs").fetchall() == [("completed",)]


def test_the_worker_of_a_slug_is_not_mistaken_for_a_module_of_that_name(database: str) -> None:
    class order:  # noqa: N801 - named like the other's slug
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            return echo_job("other").__pgflow_definition__()

    job = echo_job("order")
    order.__qualname__ = "order"
    with opened(database, flows=[order], jobs=[job]) as (starter, runtime):
        starter.await_ready(10)
        cell = next(c for c in runtime.parts.workers.cells() if c.definition.slug == "order")
        assert cell.ref is not None
        cell.ref.stop()
        eventually(lambda: [m.attempts for m in starter.status().modules] == [1, 2])


def _heartbeat(admin: psycopg.Connection[tuple[object, ...]]) -> object:
    return admin.execute("select max(last_heartbeat_at) from pgflow.workers").fetchone()


@pytest.mark.parametrize("encoding", ["latin1", "euc_jp"])
def test_what_the_databases_encoding_has_no_character_for_fails_its_own_run_only(
    server: EmbeddedPostgres, encoding: str
) -> None:
    job = echo_job(max_attempts=1)
    bad = pgflow.job("bad", max_attempts=1)(_raising)
    name = f"in_{encoding}"
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute(f"create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0")
    conninfo = server.conninfo(name)
    try:
        install(conninfo)
        with running(f"{conninfo} client_encoding={encoding}", jobs=[job, bad]) as starter:
            with pytest.raises(pgflow.PgflowError):
                starter.client.enqueue(job, "\N{SNOWMAN}")
            odd = pgflow.job("odd", max_attempts=1)(lambda message, ctx: "\N{SNOWMAN}")
            failed = starter.client.enqueue(bad, 1).wait(20)
            assert failed.status == "failed"
            assert "\\u2603" in str(failed.error)
            assert starter.client.enqueue(job, "plain").wait(20).result == "plain"
        with running(conninfo, jobs=[odd, job]) as starter:
            unfit = starter.client.enqueue(odd, 1).wait(20)
            assert unfit.status == "failed"
            assert "cannot be stored" in str(unfit.error)
            assert starter.client.enqueue(job, "plain").wait(20).result == "plain"
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)")


def _raising(message: Any, ctx: pgflow.TaskContext) -> None:
    raise ValueError("\N{SNOWMAN}")


def test_what_a_handler_leaves_in_its_context_is_not_there_for_the_next(database: str) -> None:
    left: contextvars.ContextVar[str] = contextvars.ContextVar("left", default="nothing")

    @pgflow.job("leaving", max_concurrency=1)
    def leaving(message: Any, ctx: pgflow.TaskContext) -> str:
        found = left.get()
        left.set("something")
        return found

    with running(database, jobs=[leaving]) as starter:
        runs = starter.client.enqueue_many(leaving, range(5))
        assert {run.wait(20).result for run in runs} == {"nothing"}


def test_an_output_whose_own_methods_raise_fails_its_task_at_once(database: str) -> None:
    class Odd(dict[str, int]):
        def items(self) -> Any:
            raise SystemExit

    job = pgflow.job("odd", max_attempts=1)(lambda message, ctx: Odd(a=1))
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, 1).wait(20)
    assert run.status == "failed"
    assert "SystemExit" in str(run.error) or "cannot be stored" in str(run.error)
