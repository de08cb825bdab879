"""The instruments, read as an exporter would; and that they keep no starter."""

from __future__ import annotations

import gc
import threading
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.readings import PoolUse, QueueDepth
from pgflow_starter.core.state import MissedTicks, ScheduleState, StarterStatus, WorkerState
from pgflow_starter.telemetry import observations
from pgflow_starter.telemetry.gauges import Gauges
from pgflow_starter.telemetry.providers import Providers
from pgflow_starter.telemetry.schedules import OtelSchedules
from tests.support.starters import echo_job, opened, running
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard, attributes

WAIT = 20.0
SEVEN = datetime(2026, 3, 4, 7, tzinfo=UTC)


def _ready(heard: Heard) -> list[int]:
    return [p.value for p in heard.points("pgflow.starter.ready")]


def _by(heard: Heard, name: str, attribute: str) -> dict[Any, Any]:
    return {p.attributes[attribute]: p.value for p in heard.points(name)}


def test_readiness_and_modules_by_status_are_those_of_the_snapshot(database: str, heard: Heard) -> None:
    hangs, go = threading.Event(), threading.Event()

    class Slow:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            hangs.set()
            go.wait(WAIT)
            return echo_job("slow").__pgflow_definition__()

    with running(database, flows=[Slow, object()], jobs=[echo_job()], **heard.settings) as starter:
        assert hangs.wait(WAIT)
        eventually(lambda: len([m for m in starter.status().modules if m.status.terminal]) == 2)
        assert _ready(heard) == [0]
        assert _by(heard, "pgflow.starter.module.count", "pgflow.starter.module.status") == {
            "pending": 1,
            "retrying": 0,
            "succeeded": 1,
            "failed_permanent": 1,
        }
        go.set()
        starter.await_ready(WAIT)
        assert _ready(heard) == [1]
        assert _by(heard, "pgflow.starter.module.count", "pgflow.starter.module.status")["succeeded"] == 2
    assert _ready(heard) == []


def test_attempts_and_the_startup_are_measured_in_seconds(database: str, heard: Heard) -> None:
    job = echo_job()
    with running(database, flows=[object()], jobs=[job], **heard.settings) as starter:
        starter.await_ready(WAIT)
        eventually(lambda: heard.points("pgflow.starter.startup.duration"))
        starter.retry_now(job)
        eventually(lambda: sum(p.count for p in heard.points("pgflow.starter.attempt.duration")) == 3)
        (startup,) = heard.points("pgflow.starter.startup.duration")
    assert startup.count == 1
    assert 0 < startup.sum < WAIT
    attempts = heard.measured("pgflow.starter.attempt.duration")
    good = (
        ("pgflow.starter.module", "echo"),
        ("pgflow.starter.module.status", "succeeded"),
        ("pgflow.starter.module.type", "job"),
    )
    bad = (
        ("error.type", "DefinitionError"),
        ("pgflow.starter.module", "object"),
        ("pgflow.starter.module.status", "failed_permanent"),
        ("pgflow.starter.module.type", "flow"),
    )
    assert {attributes: point.count for attributes, point in attempts.items()} == {good: 2, bad: 1}
    assert all(0 < point.sum < WAIT for point in attempts.values())


def test_tasks_are_counted_while_they_run_and_measured_when_they_have(database: str, heard: Heard) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    @pgflow.job("slow", max_attempts=1)
    def slow(message: Any, ctx: pgflow.TaskContext) -> float:
        begun.release()
        go.wait(WAIT)
        return 1 / message  # type: ignore[no-any-return]

    with running(database, jobs=[slow], signal_strategy="notify", **heard.settings) as starter:
        starter.await_ready(WAIT)
        runs = starter.client.enqueue_many(slow, [1, 0])
        for _ in runs:
            assert begun.acquire(timeout=WAIT)
        assert _by(heard, "pgflow.worker.task.active", "messaging.destination.name") == {"slow": 2}
        go.set()
        for run in runs:
            run.wait(WAIT)
        eventually(lambda: _by(heard, "pgflow.worker.task.active", "messaging.destination.name") == {"slow": 0})
        assert _by(heard, "pgflow.worker.wakeups", "messaging.destination.name")["slow"] >= 1
        eventually(lambda: len(heard.points("messaging.process.duration")) == 2)
    process = heard.measured("messaging.process.duration")
    good = (
        ("messaging.destination.name", "slow"),
        ("messaging.operation.name", "process"),
        ("messaging.system", "pgmq"),
        ("pgflow.step", "slow"),
    )
    bad = (("error.type", "ZeroDivisionError"), *good)
    assert {attributes: point.count for attributes, point in process.items()} == {good: 1, bad: 1}


def test_durations_lead_to_examples_of_their_spans(database: str, heard: Heard) -> None:
    job = echo_job()
    with running(database, jobs=[job], **heard.settings) as starter:
        starter.client.enqueue(job, 1).wait(WAIT)
    data = heard.reader.get_metrics_data()  # once: examples are told once
    assert data is not None
    found = {
        metric.name: {exemplar.span_id for point in metric.data.data_points for exemplar in point.exemplars}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    for instrument, name in (
        ("messaging.process.duration", "process"),
        ("pgflow.starter.attempt.duration", "register"),
    ):
        assert found[instrument] == {span.context.span_id for span in heard.spans(f"{name} echo")}


def test_starters_of_one_provider_are_added_up(server: Any, database: str, heard: Heard) -> None:
    with (
        running(database, jobs=[echo_job("a")], **heard.settings) as one,
        running(database, jobs=[echo_job("b"), echo_job("c")], **heard.settings) as other,
    ):
        one.await_ready(WAIT)
        other.await_ready(WAIT)
        assert _by(heard, "pgflow.starter.module.count", "pgflow.starter.module.status")["succeeded"] == 3
        assert set(_by(heard, "pgflow.worker.task.active", "messaging.destination.name")) == {"a", "b", "c"}
        one.stop()
        assert _by(heard, "pgflow.starter.module.count", "pgflow.starter.module.status")["succeeded"] == 2
        elsewhere = Heard()
        assert elsewhere.points("pgflow.starter.ready") == []
        elsewhere.close()
    with running(database, flows=[object()], **heard.settings) as third:
        third.await_ready(WAIT)
        assert _by(heard, "pgflow.starter.module.count", "pgflow.starter.module.status")["failed_permanent"] == 1


def test_a_starter_that_has_stopped_is_kept_by_nobody(database: str, heard: Heard) -> None:
    with opened(database, jobs=[echo_job()], **heard.settings) as (starter, runtime):
        starter.await_ready(WAIT)
        gone = weakref.ref(runtime)
    del starter, runtime

    def collected() -> bool:
        gc.collect()
        return gone() is None

    eventually(collected)


class Told:
    """`ports.GaugeSource`."""

    def __init__(self, ready: bool, *schedules: ScheduleState) -> None:
        self._ready = ready
        self._schedules = schedules

    def status(self) -> StarterStatus:
        now = SystemClock().now()
        return StarterStatus(self._ready, self._ready, now, None, (), schedules=self._schedules)

    def worker_states(self) -> tuple[WorkerState, ...]:
        return ()

    def pool_use(self) -> PoolUse:
        return PoolUse(10)

    def database_name(self) -> str:
        return ""

    def queue_depths(self) -> tuple[QueueDepth, ...]:
        return ()


def _provider() -> tuple[MeterProvider, InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    return MeterProvider([reader], shutdown_on_exit=False), reader


def _value(reader: InMemoryMetricReader) -> Any:
    data = reader.get_metrics_data()
    if data is None:
        return None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    points: list[Any] = [p for m in metrics for p in m.data.data_points if m.name == "pgflow.starter.ready"]
    return points[0].value if points else None


def test_one_that_gave_up_is_not_ready_and_one_that_was_dropped_not_there() -> None:
    provider, reader = _provider()
    told = Told(ready=True)
    gauges = Gauges(provider, told)
    gauges.open()
    assert _value(reader) == 1
    gauges.terminated()
    assert _value(reader) == 0
    del gauges
    gc.collect()
    assert _value(reader) is None
    provider.shutdown()


def test_they_are_ready_when_each_of_them_is() -> None:
    provider, reader = _provider()
    yes, no = Told(ready=True), Told(ready=False)
    first, second = Gauges(provider, yes), Gauges(provider, no)
    first.open()
    assert _value(reader) == 1
    second.open()
    assert _value(reader) == 0
    second.close()
    assert _value(reader) == 1
    first.close()
    provider.shutdown()


def test_a_forked_child_tells_nothing_of_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, reader = _provider()
    told = Told(ready=True)
    gauges = Gauges(provider, told)
    gauges.open()
    monkeypatch.setattr("pgflow_starter.telemetry.gauges.os.getpid", lambda: -1)
    assert _value(reader) is None
    gauges.close()
    provider.shutdown()


def test_workers_in_trouble_are_counted_by_its_scope(database: str, heard: Heard) -> None:
    def counted() -> dict[Any, float]:
        return _by(heard, "pgflow.worker.trouble", "pgflow.worker.trouble.scope")

    with running(database, jobs=[echo_job()], **heard.settings) as starter, psycopg.connect(database) as admin:
        starter.await_ready(WAIT)
        assert counted() == {"all": 0, "some": 0}
        admin.execute("select pgmq.send('echo', '{}')")
        admin.commit()
        eventually(lambda: counted() == {"all": 0, "some": 1})
        admin.execute("select pgmq.purge_queue('echo')")
        admin.commit()
        eventually(lambda: counted() == {"all": 0, "some": 0})


def test_how_late_ticks_are_started_is_measured_by_schedule(database: str, heard: Heard) -> None:
    job = echo_job()
    schedules = [pgflow.Schedule("* * * * * *", job), pgflow.Schedule("0 0 1 1 *", job, name="yearly")]
    with running(database, jobs=[job], schedules=schedules, **heard.settings) as starter:
        eventually(lambda: starter.status().schedules[0].last_result == "started", WAIT)
        (point,) = heard.points("pgflow.schedule.lateness")
    assert dict(point.attributes) == {"pgflow.schedule.name": "echo"}
    assert point.count >= 1
    assert point.min >= 0


def test_how_late_the_last_tick_was_started_is_said_by_who_started_it() -> None:
    def told(last_late: float | None) -> Told:
        return Told(True, ScheduleState("nightly", "report", "0 7 * * *", "UTC", None, last_late=last_late))

    assert observations.last_lateness([told(None)]) == []
    (point,) = observations.last_lateness([told(2.0), told(None), told(90.0), told(0.5)])
    assert (dict(point.attributes or {}), point.value) == ({"pgflow.schedule.name": "nightly"}, 90.0)


def test_ticks_that_were_missed_are_counted_by_schedule_and_by_no_process_again() -> None:
    def told(missed: MissedTicks | None) -> Told:
        return Told(True, ScheduleState("nightly", "report", "0 7 * * *", "UTC", None, missed=missed))

    five = told(MissedTicks(5, SEVEN, SEVEN, "the database was away"))
    for sources, count in (([told(None)], 0), ([five, told(None), five], 5)):
        (point,) = observations.missed(sources)
        assert (dict(point.attributes or {}), point.value) == ({"pgflow.schedule.name": "nightly"}, count)


def test_ticks_that_were_missed_are_an_event_that_says_how_many_and_why(heard: Heard) -> None:
    observer = OtelSchedules(Providers(SystemClock(), **heard.settings), SystemClock())
    observer.ticks_missed("nightly", MissedTicks(5, SEVEN, SEVEN + timedelta(days=4), "the database was away"))
    (event,) = heard.events("pgflow.schedule.ticks_missed")
    assert attributes(event) == {"pgflow.schedule.name": "nightly", "pgflow.schedule.ticks": 5}
    assert event.log_record.body == (
        "schedule nightly: 5 missed, from 2026-03-04T07:00:00+00:00 to 2026-03-08T07:00:00+00:00: the database was away"
    )
