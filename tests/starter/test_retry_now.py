"""An attempt at once, whatever the timer says."""

from __future__ import annotations

import threading

import psycopg

import pgflow_starter as pgflow
from pgflow_starter import ModuleStatus
from tests.support.starters import await_state, echo_job, running, state

FAR = pgflow.Backoff(base=60, maximum=60)


def test_a_succeeded_module_runs_its_phases_again_and_keeps_its_status(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job], signal_strategy="notify") as starter:
        starter.await_ready(10)
        starter.retry_now("echo")
        again = await_state(starter, job, lambda s: s.attempts == 2 and s.phase is None)
        assert again.status is ModuleStatus.SUCCEEDED
        assert starter.client.enqueue(job, 7).wait(10).result == 7


def test_calls_made_while_an_attempt_runs_coalesce_into_one_more(database: str, release: threading.Event) -> None:
    entered = threading.Event()
    calls: list[int] = []

    class Gated:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            calls.append(1)
            entered.set()
            release.wait()
            return echo_job("gated").__pgflow_definition__()

    with running(database, flows=[Gated]) as starter:
        assert entered.wait(10)
        for _ in range(1000):
            starter.retry_now(Gated)
        release.set()
        await_state(starter, Gated, lambda s: s.attempts == 2 and s.phase is None)
        starter.await_ready(10)
        assert len(calls) == 2
        assert state(starter, Gated).attempts == 2


def test_a_module_between_attempts_is_tried_at_once(database: str) -> None:
    job = echo_job("held")
    with psycopg.connect(database) as holder:
        holder.execute("select pgmq.acquire_queue_lock('held')")
        with running(database, jobs=[job], backoff=FAR, phase_timeout=0.3) as starter:
            waiting = await_state(starter, job, lambda s: s.status is ModuleStatus.RETRYING)
            assert waiting.next_attempt_at is not None
            assert waiting.last_error is not None
            assert waiting.last_error.error_class == "transient"
            holder.rollback()
            starter.retry_now(job)
            starter.await_ready(10)
            assert state(starter, job).status is ModuleStatus.SUCCEEDED
            assert state(starter, job).last_error is None


def test_a_permanent_failure_can_be_tried_again_and_may_have_been_mended(empty_database: str, template: str) -> None:
    from pgflow_starter.postgres.setup.install import install

    job = echo_job()
    with running(empty_database, jobs=[job]) as starter:
        starter.await_ready(10)
        failed = state(starter, job)
        assert failed.status is ModuleStatus.FAILED_PERMANENT
        assert failed.last_error is not None
        assert "pgflow-starter db install" in failed.last_error.reason
        assert "pgmq" in failed.last_error.reason
        install(empty_database)
        starter.retry_now(job)
        await_state(starter, job, lambda s: s.status is ModuleStatus.SUCCEEDED)
        assert starter.client.enqueue(job, {"a": 1}).wait(10).result == {"a": 1}
