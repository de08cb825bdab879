"""A deprecated worker that has a successor: the new one claims nothing before the database knows it."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from tests.support.starters import opened
from tests.support.waiting import eventually

WAIT = 30.0


def test_until_the_successor_is_registered_it_claims_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    begun, registering, go_on = threading.Semaphore(0), threading.Event(), threading.Event()
    register = PostgresFlowStore.register_workers

    def registers(*arguments: Any) -> None:
        registering.set()
        assert go_on.wait(WAIT)
        register(*arguments)

    @pgflow.job("asked", max_concurrency=2)
    def asked(message: Any, ctx: pgflow.TaskContext) -> Any:
        begun.release()
        release.wait()
        return message

    with opened(database, jobs=[asked], heartbeat_interval=0.05) as (starter, runtime):
        starter.await_ready(WAIT)
        (cell,) = runtime.parts.workers.cells()
        first = starter.client.enqueue(asked, "begun")
        assert begun.acquire(timeout=WAIT)
        with psycopg.connect(database) as connection:
            connection.execute("update pgflow.workers set deprecated_at = now()")
        eventually(lambda: cell.draining, WAIT)
        monkeypatch.setattr(PostgresFlowStore, "register_workers", registers)
        starter.retry_now(asked)
        assert registering.wait(WAIT)
        try:
            second = starter.client.enqueue(asked, "later")
            assert not cell.draining
            assert cell.claims.claim() is None
            assert not begun.acquire(blocking=False)
            assert not cell.state().alive
        finally:
            go_on.set()
            release.set()
        assert [first.wait(WAIT).result, second.wait(WAIT).result] == ["begun", "later"]
