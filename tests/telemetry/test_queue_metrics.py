"""What the metrics say of queues, runs, retries, the fast lane and the pool."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.testing import EmbeddedPostgres
from pgflow_starter.worker import queue_watch, tally
from tests.support.database import NoScope, opened
from tests.support.databases import fresh_database
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard

WAIT = 20.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read at once, so to say."""
    monkeypatch.setattr(queue_watch, "INTERVAL", 0.1)
    monkeypatch.setattr(queue_watch, "PAUSE", 0.0)
    monkeypatch.setattr(tally, "INTERVAL", 0.1)


def by(heard: Heard, name: str, *attributes: str) -> dict[Any, Any]:
    """The values of an instrument by these attributes."""
    return {tuple(p.attributes[a] for a in attributes): p.value for p in heard.points(name)}


def depths(heard: Heard) -> dict[Any, Any]:
    return by(heard, "pgflow.queue.depth", "messaging.destination.name", "pgflow.queue.state")


def ages(heard: Heard) -> dict[str, float]:
    return {p.attributes["messaging.destination.name"]: p.value for p in heard.points("pgflow.queue.oldest.age")}


def runs(heard: Heard) -> dict[Any, Any]:
    return by(heard, "pgflow.run.ended", "pgflow.flow", "pgflow.run.status")


def test_messages_are_counted_by_queue_and_by_whether_they_can_be_read(
    database: str, heard: Heard, release: threading.Event
) -> None:
    begun = threading.Event()

    @pgflow.job("slow", max_concurrency=1)
    def slow(message: Any, ctx: pgflow.TaskContext) -> Any:
        begun.set()
        release.wait(WAIT)

    settings = {"batch_size": 1, "shutdown_timeout": 0.0}
    with running(database, jobs=[slow, echo_job()], **settings, **heard.settings) as starter:
        starter.await_ready(WAIT)
        eventually(lambda: len(depths(heard)) == 4)
        starter.client.enqueue_many(slow, range(10))
        assert begun.wait(WAIT)
        starter.client.enqueue_many(slow, [2, 3, 4], delay=3600)
        with psycopg.connect(database) as admin:
            admin.execute("update pgmq.q_slow set vt = now() - interval '100 s' where vt <= now()")
        eventually(lambda: depths(heard).get(("slow", "hidden"), 0) >= 4)  # the one that runs, and some ahead perhaps
        counted = depths(heard)
        assert counted["slow", "hidden"] + counted["slow", "waiting"] == 13
        assert counted["slow", "waiting"] >= 5
        assert (counted["echo", "waiting"], counted["echo", "hidden"]) == (0, 0)
        eventually(lambda: ages(heard)["slow"] >= 100)
        assert ages(heard)["echo"] == 0
        release.set()


def test_queues_of_one_name_are_told_apart_by_their_databases(
    server: EmbeddedPostgres, template: str, database: str, heard: Heard
) -> None:
    def told() -> dict[Any, Any]:
        hidden = by(heard, "pgflow.queue.depth", "db.namespace", "pgflow.queue.state")
        return {name: count for (name, state), count in hidden.items() if state == "hidden"}

    job = echo_job()
    with (
        fresh_database(server, template) as elsewhere,
        running(database, jobs=[job], **heard.settings) as one,
        running(database, jobs=[job], **heard.settings),
        running(elsewhere, jobs=[job], **heard.settings) as other,
    ):
        one.client.enqueue_many(job, [1, 2], delay=3600)
        other.client.enqueue(job, 1, delay=3600)
        expected = {conninfo_to_dict(database)["dbname"]: 2, conninfo_to_dict(elsewhere)["dbname"]: 1}
        eventually(lambda: told() == expected)


def test_nothing_is_said_of_queues_that_cannot_be_counted(database: str, heard: Heard) -> None:
    with running(database, jobs=[echo_job()], **heard.settings) as starter, psycopg.connect(database) as admin:
        starter.await_ready(WAIT)
        eventually(lambda: depths(heard))
        admin.execute("lock table pgmq.q_echo in access exclusive mode")
        eventually(lambda: not depths(heard))
        admin.rollback()
        eventually(lambda: depths(heard))


@pytest.mark.parametrize("fast_lane", ["auto", "off"])
def test_runs_are_counted_once_each_by_how_they_ended(database: str, heard: Heard, fast_lane: str) -> None:
    flow = pgflow.Flow("fan", max_attempts=2, base_delay=0)

    @flow.step()
    def numbers(given: Any, ctx: pgflow.TaskContext) -> Any:
        return [1, 2, 3]

    @flow.map(array="numbers")
    def each(item: int, ctx: pgflow.TaskContext) -> int:
        return item

    @flow.step(depends_on=["numbers"])
    def check(deps: Any, ctx: pgflow.TaskContext) -> None:
        if ctx.flow_input == "bad" or (ctx.flow_input == "once" and ctx.attempt == 1):
            raise ValueError("wrong")

    job = echo_job()
    with running(database, flows=[flow], jobs=[job], fast_lane=fast_lane, **heard.settings) as starter:
        started = starter.client.start_flows(flow, ["good", "once", "bad", "good"])
        started += starter.client.enqueue_many(job, range(20))
        for run in started:
            run.wait(WAIT)
        expected = {("fan", "completed"): 3, ("fan", "failed"): 1, ("echo", "completed"): 20, ("echo", "failed"): 0}
        eventually(lambda: sum(runs(heard).values()) >= 24)
        assert runs(heard) == expected
        states = by(heard, "pgflow.fast_lane", "pgflow.fast_lane.state")
        assert states[("on",)] == (fast_lane == "auto")
        assert sum(states.values()) == 1
    assert by(heard, "pgflow.task.retries", "messaging.destination.name", "pgflow.step") == {("fan", "check"): 2}


def test_a_run_that_fails_for_its_last_output_is_counted_as_failed(database: str, heard: Heard) -> None:
    flow = pgflow.Flow("no_list", max_attempts=1)
    flow.step(slug="given")(lambda given, ctx: "no list")
    flow.map(slug="each", array="given")(lambda item, ctx: item)
    with running(database, flows=[flow], **heard.settings) as starter:
        assert starter.client.start_flow(flow, 1).wait(WAIT).status == "failed"
        eventually(lambda: runs(heard) == {("no_list", "completed"): 0, ("no_list", "failed"): 1})


def test_the_last_runs_are_counted_when_the_starter_stops(
    database: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "INTERVAL", 3600.0)
    job = echo_job()
    with running(database, jobs=[job], **heard.settings) as starter:
        for run in starter.client.enqueue_many(job, range(5)):
            run.wait(WAIT)
    assert runs(heard) == {("echo", "completed"): 5, ("echo", "failed"): 0}


def test_a_run_whose_last_worker_died_is_counted_by_who_found_that(database: str, heard: Heard) -> None:
    job = echo_job("poison", max_attempts=1)
    quick = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
    with pgflow.PgflowClient(database) as client, opened(database) as opening:
        flows, tasks, worker = PostgresFlowStore(opening, opening.clock), PostgresTaskStore(opening), uuid4()
        definition = flows.compile(definition_of(job), NoScope()).definition
        flows.register_workers([(worker, "poison")], NoScope())
        run = client.enqueue(job, 1)
        assert tasks.claim(definition, worker, 1, NoScope()).tasks
        with running(database, jobs=[job], **quick, **heard.settings):
            assert run.wait(WAIT).status == "failed"
            eventually(lambda: runs(heard) == {("poison", "completed"): 0, ("poison", "failed"): 1})
    assert heard.spans("run poison") == []


def test_the_pool_is_told_by_what_it_may_have_has_and_uses(database: str, heard: Heard) -> None:
    with running(database, jobs=[echo_job()], pool_size=7, **heard.settings) as starter:
        starter.await_ready(WAIT)
        assert by(heard, "db.client.connection.max", "db.client.connection.pool.name") == {("pgflow",): 7}
        states = by(heard, "db.client.connection.count", "db.client.connection.state")
        assert set(states) == {("idle",), ("used",)}
        assert 1 <= sum(states.values()) <= 7
        assert [p.value for p in heard.points("db.client.connection.pending_requests")] == [0]
        assert [p.value for p in heard.points("pgflow.database.away")] == [0]


def test_a_database_that_is_away_is_told(heard: Heard) -> None:
    with running("host=127.0.0.1 port=1", jobs=[echo_job()], **heard.settings):
        eventually(lambda: [p.value for p in heard.points("pgflow.database.away")] == [1])
        assert depths(heard) == {}


def test_whoever_does_not_ask_has_nothing_read(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    for module, name in ((queue_watch, "QueueWatch"), (tally, "Tally")):
        part: Callable[..., Any] = getattr(module, name)
        monkeypatch.setattr(part, {"QueueWatch": "_read", "Tally": "_ask"}[name], asked.append)
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.client.enqueue(job, 1).wait(WAIT)
    assert asked == []


def test_no_metric_has_a_run_or_a_worker_among_its_attributes(database: str, heard: Heard) -> None:
    job = echo_job()
    with running(database, jobs=[job], **heard.settings) as starter:
        run = starter.client.enqueue(job, 1)
        run.wait(WAIT)
        eventually(lambda: runs(heard) == {("echo", "completed"): 1, ("echo", "failed"): 0})
        (worker,) = starter.workers()
        data = heard.reader.get_metrics_data()
        assert data is not None
        told = data.to_json()
    assert str(run.id) not in told
    assert str(worker.worker_id) not in told
