"""The notify strategy: woken by notifications, also by those that a crash of the server would have silenced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.listening import proof
from pgflow_starter.postgres.listening.listener import Listener
from pgflow_starter.postgres.setup.install import install
from pgflow_starter.testing import ManualClock
from tests.support.databases import FAST, memory_folder
from tests.support.listening import listen_now
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

NEVER = {"signal_strategy": "notify", "notify_fallback_interval": 600}


@pytest.fixture
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, everything installed, to be killed."""
    with EmbeddedPostgres(version=pg_version, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


def test_messages_are_announced_and_the_fallback_is_not_waited_for(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job], **NEVER) as starter:
        starter.await_ready(10)
        for i in range(20):
            assert starter.client.enqueue(job, i).wait(5).result == i


def test_messages_within_the_throttle_are_found_by_the_trailing_poll(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job], **{**NEVER, "notify_throttle": 0.5}) as starter:
        starter.await_ready(10)
        runs = [starter.client.enqueue(job, i) for i in range(30)]
        assert [run.wait(5).result for run in runs] == list(range(30))


def test_what_was_sent_before_anybody_listened_is_run(database: str) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(job, "early")
        with running(database, jobs=[job], **NEVER):
            assert run.wait(5).result == "early"


def test_what_is_sent_within_the_throttle_of_what_was_sent_to_nobody_is_run(database: str) -> None:
    job, throttled = echo_job(), {**NEVER, "notify_throttle": 2.0}
    with running(database, jobs=[job], **throttled) as starter:
        starter.await_ready(10)
    with pgflow.PgflowClient(database) as client:
        early = client.enqueue(job, "early")
        with running(database, jobs=[job], **throttled):
            early.wait(5)
            assert client.enqueue(job, "late").wait(8).result == "late"


def test_after_a_crash_of_the_server_notifications_are_enabled_again(own_server: EmbeddedPostgres) -> None:
    job = echo_job()
    with running(own_server.conninfo(), jobs=[job], **NEVER) as starter:
        starter.await_ready(10)
        own_server.kill()
        own_server.start()
        eventually(lambda: starter.status().outage is None)

        def enabled() -> bool:
            with psycopg.connect(own_server.conninfo()) as admin:
                return admin.execute("select from pgmq.notify_insert_throttle").fetchone() is not None

        eventually(enabled, what="the row in the UNLOGGED throttle table")
        for i in range(3):
            assert starter.client.enqueue(job, i).wait(5).result == i


def test_a_connection_that_does_not_hear_is_given_up_and_says_so(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "TIMEOUT", 0.1)

    def lies(channel: str, sent: Callable[[bool], None]) -> None:
        sent(True)

    listener = Listener(empty_database, SystemClock(), notify=lies)
    try:
        with pytest.raises(DatabaseError, match="did not arrive"):
            listen_now(listener, "q", lambda: None)
    finally:
        listener.close()


def test_a_proof_that_cannot_be_sent_proves_nothing_and_is_tried_again() -> None:
    clock = ManualClock()
    asked: list[Callable[[bool], None]] = []
    changed = threading.Event()
    p = proof.Proof("c", clock, lambda channel, sent: asked.append(sent), changed.set)
    p.begin()
    assert p.patience() == proof.ASKED_TIMEOUT
    asked.pop()(False)
    assert not p.overdue()
    clock.advance(proof.TIMEOUT)
    assert not p.overdue()
    asked.pop()(True)
    assert changed.is_set()
    clock.advance(proof.TIMEOUT / 2)
    assert not p.overdue()
    p.arrived()
    assert p.heard
    clock.advance(proof.INTERVAL - 1)
    assert not p.overdue()
    assert not asked
    clock.advance(1)
    assert not p.overdue()
    asked.pop()(True)
    clock.advance(proof.TIMEOUT)
    assert p.overdue()
