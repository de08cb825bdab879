"""Tasks whose worker died: recovered, counted, and in the end failed, whoever else looks after them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.cores.stand_in import CORES, Admin, attempts, claim_and_die, cores_since, cron, make_old, upgrade
from tests.support.database import opened
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

QUICK = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}


def _recover(store: PostgresTaskStore, slug: str) -> int:
    return store.recover_stalled([slug], [], 0.3)


def test_a_dead_workers_task_gets_its_next_attempt_from_the_next_worker(database: str, admin: Admin) -> None:
    @pgflow.job("orphan", max_attempts=2, timeout=600)
    def orphan(message: Any, ctx: pgflow.TaskContext) -> int:
        return ctx.attempt

    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(orphan)
        claim_and_die(admin, "orphan")
        with running(database, jobs=[orphan], **QUICK):
            assert run.wait(20).result == 2
    assert attempts(admin, run.id) == [2]


def test_a_dead_workers_task_without_an_attempt_left_fails_its_run(database: str, admin: Admin) -> None:
    job = echo_job("poison", max_attempts=1, timeout=600)
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(job)
        claim_and_die(admin, "poison")
        with running(database, jobs=[job], **QUICK):
            failed = run.wait(20)
    assert failed.error is not None
    assert "worker" in failed.error
    assert (failed.status, attempts(admin, run.id)) == ("failed", [1])


@pytest.mark.parametrize("max_attempts", [3, 6])
@pytest.mark.parametrize("first", ["ours", "cron"])
def test_a_task_that_kills_every_worker_ends_as_failed_beside_somebodys_cron(
    database: str, admin: Admin, max_attempts: int, first: str
) -> None:
    job, bystander = echo_job("poison", max_attempts=max_attempts, base_delay=0), echo_job("bystander")
    with pgflow.PgflowClient(database) as client, opened(database) as opening:
        store = PostgresTaskStore(opening)
        run = client.enqueue(job)
        for _ in range(7):
            claim_and_die(admin, "poison")
            # A newer core has been seen to archive what it gives up only beside something that it hands on.
            client.enqueue(bystander)
            claim_and_die(admin, "bystander")
            if first == "ours":
                _recover(store, "poison")
            cron(admin)
            _recover(store, "poison")
        assert run.refresh().status == "failed"
        assert run.refresh().error is not None
    row = admin.execute("select count(*) from pgmq.q_poison").fetchone()
    assert row == (0,)


def test_a_task_that_the_cron_hands_on_runs_and_counts_its_attempt(database: str, admin: Admin) -> None:
    @pgflow.job("handed_on", max_attempts=3)
    def handed_on(message: Any, ctx: pgflow.TaskContext) -> int:
        return ctx.attempt

    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(handed_on)
        claim_and_die(admin, "handed_on")
        cron(admin)
        with running(database, jobs=[handed_on], **QUICK):
            assert run.wait(20).result == 2


def test_two_recoveries_and_a_cron_at_once_do_no_harm(database: str, admin: Admin) -> None:
    job = echo_job("many", max_attempts=2, base_delay=0)
    with pgflow.PgflowClient(database) as client, opened(database) as one, opened(database) as other:
        runs = [client.enqueue(job, i) for i in range(12)]
        claim_and_die(admin, "many")
        stores = [PostgresTaskStore(one), PostgresTaskStore(other)]
        with ThreadPoolExecutor(3) as pool:
            sweeps = [pool.submit(_recover, store, "many") for store in stores]
            pool.submit(cron, admin).result()
            for sweep in sweeps:
                sweep.result()
        with running(database, jobs=[job], **QUICK):
            assert [run.wait(20).result for run in runs] == list(range(12))
    assert {n for run in runs for n in attempts(admin, run.id)} == {2}


def test_a_run_that_failed_meanwhile_is_swept_once_and_not_for_ever(database: str, admin: Admin) -> None:
    flow = pgflow.Flow("pair", max_attempts=1, timeout=600)
    flow.step(slug="one")(lambda given, ctx: 1)
    flow.step(slug="two")(lambda given, ctx: 2)
    with pgflow.PgflowClient(database) as client, opened(database) as opening:
        store = PostgresTaskStore(opening)
        run = client.start_flow(flow)
        claim_and_die(admin, "pair")
        _recover(store, "pair")
        assert run.refresh().status == "failed"
        _recover(store, "pair")
        assert _recover(store, "pair") == 0


def test_a_living_workers_long_task_is_left_to_it_by_everybody(
    database: str, admin: Admin, release: threading.Event
) -> None:
    entered = threading.Event()
    flow = pgflow.Flow("patient", max_attempts=3, timeout=1)
    seen: list[int] = []

    @flow.step(timeout=3600)
    def long(given: Any, ctx: pgflow.TaskContext) -> int:
        seen.append(ctx.attempt)
        entered.set()
        release.wait()
        return ctx.attempt

    with running(database, flows=[flow], **QUICK) as starter, running(database, flows=[flow], **QUICK):
        run = starter.client.start_flow(flow)
        assert entered.wait(20)
        make_old(admin, "patient")
        _await_heartbeats(admin)
        cron(admin)
        _await_heartbeats(admin)
        release.set()
        assert run.wait(20).result == 1
    assert seen == [1]


@pytest.mark.parametrize(("flow_timeout", "step_timeout"), [(3600, 10), (10, 3600)])
def test_a_living_workers_task_is_kept_younger_than_what_its_core_goes_by(
    database: str, admin: Admin, flow_timeout: int, step_timeout: int
) -> None:
    flow = pgflow.Flow("kept", timeout=flow_timeout)
    flow.step(slug="one", timeout=step_timeout)(lambda given, ctx: 1)
    with pgflow.PgflowClient(database) as client, opened(database) as opening:
        client.start_flow(flow)
        worker = claim_and_die(admin, "kept")
        PostgresTaskStore(opening).keep_young([worker])
        cron(admin)
    row = admin.execute("select status, last_worker_id from pgflow.step_tasks").fetchone()
    assert row == ("started", worker)


@pytest.mark.parametrize("core", CORES[:1], indirect=True)
@pytest.mark.parametrize("newer", cores_since("0.14"))
def test_it_is_kept_younger_as_well_when_its_core_was_upgraded_under_it(
    database: str, admin: Admin, newer: str
) -> None:
    with pgflow.PgflowClient(database) as client, opened(database) as opening:
        store = PostgresTaskStore(opening)
        store.keep_young([])
        client.enqueue(echo_job("kept"))
        worker = claim_and_die(admin, "kept")
        upgrade(database, newer)
        store.keep_young([worker])
        cron(admin)
    row = admin.execute("select status, last_worker_id from pgflow.step_tasks").fetchone()
    assert row == ("started", worker)


def _await_heartbeats(admin: Admin) -> None:
    """Every worker's beats from now on, two of them: what comes with a heartbeat is done."""
    for _ in range(2):
        now = admin.execute("select clock_timestamp()").fetchone()
        assert now is not None
        eventually(partial(_heard_since, admin, now[0]))


def _heard_since(admin: Admin, moment: object) -> bool:
    row = admin.execute("select min(last_heartbeat_at) > %s from pgflow.workers", (moment,)).fetchone()
    return row == (True,)
