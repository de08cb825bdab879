"""Workers that have nothing to do: they look together, and find out what has become of their rows."""

from __future__ import annotations

from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.setup.install import install
from pgflow_starter.threads.lane import Lane
from pgflow_starter.worker.claims import Cause, Claims
from pgflow_starter.worker.lookout import Lookout
from tests.support.starters import await_state, echo_job, opened, running
from tests.support.waiting import eventually

WAIT = 30.0


def jobs(count: int, name: str = "job") -> list[pgflow.Job]:
    return [echo_job(f"{name}_{n}") for n in range(count)]


def worker_rows(database: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(database) as admin:
        return set(admin.execute("select worker_id, queue_name from pgflow.workers").fetchall())


def test_an_idle_worker_whose_row_is_gone_is_found_out_and_registered_again(database: str) -> None:
    known = jobs(5)
    with running(database, jobs=known) as starter, psycopg.connect(database, autocommit=True) as admin:
        starter.await_ready(WAIT)
        before = worker_rows(database)
        admin.execute("delete from pgflow.workers where queue_name in ('job_1', 'job_2')")
        eventually(lambda: worker_rows(database) == before)  # a worker keeps its id
        starter.await_ready(WAIT)
        assert [m.attempts for m in starter.status().modules] == [1, 2, 2, 1, 1]
        assert starter.client.enqueue(known[1], 5).wait(WAIT).result == 5


def test_idle_workers_of_a_schema_that_was_replaced_are_all_registered_again(database: str) -> None:
    known = jobs(5)
    with running(database, jobs=known) as starter, psycopg.connect(database, autocommit=True) as admin:
        starter.await_ready(WAIT)
        admin.execute("drop schema pgflow cascade")
        install(database)
        eventually(lambda: len(worker_rows(database)) == 5, WAIT)
        runs = [starter.client.enqueue(job, n) for n, job in enumerate(known)]
        assert [run.wait(WAIT).result for run in runs] == [*range(5)]


def test_a_message_that_is_not_visible_yet_is_polled_for_when_it_is(database: str) -> None:
    flow = pgflow.Flow("later")
    flow.step(slug="only", start_delay=2)(lambda given, ctx: given)
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(flow, 5)
    never = {"signal_strategy": "notify", "notify_fallback_interval": 600}
    with running(database, flows=[flow], jobs=jobs(5), **never) as starter:
        assert starter.client.run(run.id).wait(WAIT).output == {"only": 5}


def test_a_worker_that_is_being_stopped_looks_no_more(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(database, jobs=jobs(2), min_poll_interval=60, max_poll_interval=60) as (starter, runtime):
        starter.await_ready(WAIT)
        cell = runtime.parts.workers.cells()[0]
        looks: list[Claims] = []
        monkeypatch.setattr(Lookout, "look_for", lambda _, claims: looks.append(claims))
        cell.claims.poll_soon(Cause.DUE)
        assert looks == [cell.claims]
        cell.stop_claiming()
        monkeypatch.setattr(Lane, "enter", lambda *_: pytest.fail("it must not poll"))
        cell.claims.poll_soon(Cause.DUE)
        cell.claims.poll_soon()
        assert looks == [cell.claims]


def test_one_that_is_unsure_what_it_has_claimed_claims_by_itself(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(database, jobs=jobs(2), min_poll_interval=60, max_poll_interval=60) as (starter, runtime):
        starter.await_ready(WAIT)
        cell = runtime.parts.workers.cells()[0]
        monkeypatch.setattr(Lookout, "look_for", lambda *_: pytest.fail("it has to claim"))
        cell.held.unsure = True
        cell.claims.poll_soon(Cause.DUE)
        eventually(lambda: not cell.held.unsure)


def test_a_module_that_has_to_be_wired_again_is_not_started_with_the_new_ones(database: str) -> None:
    known = jobs(3)
    with running(database, jobs=known) as starter:
        starter.await_ready(WAIT)
        before = worker_rows(database)
        for job in known:
            starter.retry_now(job)
        for job in known:
            await_state(starter, job, lambda s: s.attempts == 2 and s.phase is None)
        assert worker_rows(database) == before
        assert [info.restarts for info in starter.which_children() if info.parent == "workers"] == [0, 0, 0]


def test_what_a_look_saw_before_a_claim_does_not_put_off_the_next_poll(
    database: str, looked: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(database, jobs=jobs(2), min_poll_interval=60, max_poll_interval=60) as (starter, runtime):
        starter.await_ready(WAIT)
        cell = runtime.parts.workers.cells()[0]
        eventually(lambda: cell.definition.slug in looked and not cell.claims.under_way)
        told: SimpleQueue[Any] = SimpleQueue()
        monkeypatch.setattr(Lookout, "look_for", lambda *_: None)
        monkeypatch.setattr(cell, "ref", SimpleNamespace(tell=told.put))
        cell.claims.poll_soon(Cause.DUE)
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("select pgmq.send(%s, '{}', 300)", (cell.definition.slug,))
        cell.claims.poll_soon()
        while (seen := told.get(timeout=WAIT).claimed.visible_in) is None:
            continue  # the first of all had still to be told
        assert 290 < seen <= 300
        cell.claims.saw_nothing(None)
        assert told.empty()
        cell.claims.poll_soon(Cause.DUE)
        cell.claims.saw_nothing(7.5)
        assert told.get(timeout=WAIT).claimed.visible_in == 7.5
