"""What enqueueing costs: round trips to the server, statements, and a worker's sleep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider

import pgflow_starter as pgflow
from tests.support.starters import echo_job, running
from tests.support.wire import Sent, Wire, traced

WARM = 8
"""Calls after which their statements are prepared."""

CALLS = 5
MANY = 10_000
WAIT = 30.0
ASLEEP = {"min_poll_interval": 300.0, "max_poll_interval": 300.0, "notify_fallback_interval": 600.0}
"""A worker that finds nothing does not look again by itself before a test is over."""


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with traced(tmp_path / "wire") as wire:
        yield wire


@pytest.mark.parametrize(("tracer", "statements"), [(None, 1), (TracerProvider(), 4)], ids=["plain", "with headers"])
def test_one_is_one_round_trip(database: str, wire: Wire, tracer: TracerProvider | None, statements: int) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database, tracer_provider=tracer) as client:
        for _ in range(WARM):
            client.enqueue(job, 1)
        sent = wire.during(lambda: [client.enqueue(job, n) for n in range(CALLS)])
    assert sent == Sent(turns=CALLS, statements=CALLS * statements)
    with psycopg.connect(database) as conn:
        with_headers = "select count(*) from pgmq.q_echo where headers ? 'traceparent'"
        assert conn.execute(with_headers).fetchone() == (0 if tracer is None else WARM + CALLS,)


def test_ten_thousand_are_one_transaction(database: str) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client, psycopg.connect(database) as conn:
        assert len({run.id for run in client.enqueue_many(job, range(MANY))}) == MANY
        assert conn.execute("select count(*), count(distinct xmin::text) from pgflow.runs").fetchone() == (MANY, 1)
        assert conn.execute("select count(*), count(distinct xmin::text) from pgmq.q_echo").fetchone() == (MANY, 1)


@pytest.mark.parametrize("strategy", ["polling", "notify"])
@pytest.mark.parametrize("many", [False, True])
def test_the_worker_of_this_process_is_woken_at_once(database: str, strategy: str, many: bool) -> None:
    job = echo_job()
    with running(database, jobs=[job], signal_strategy=strategy, **ASLEEP) as starter:
        starter.await_ready(WAIT)
        client = starter.client
        for n in range(3):
            (run, *_) = client.enqueue_many(job, [n, n]) if many else [client.enqueue(job, n)]
            assert run.wait(WAIT).result == n
