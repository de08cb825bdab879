"""Through a session pooler LISTEN works, and a notification that is late there is no reason to say that it cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError, ListenUnsupportedError
from pgflow_starter.postgres.listening import proof
from pgflow_starter.postgres.listening.listener import Listener
from pgflow_starter.postgres.stores import pgmq
from tests.support.listening import listen_now
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

SELDOM = {"min_poll_interval": 60.0, "max_poll_interval": 60.0, "notify_fallback_interval": 60.0}


@pytest.fixture(autouse=True)
def frequent_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "TIMEOUT", 0.5)
    monkeypatch.setattr(proof, "INTERVAL", 0.2)


@contextmanager
def listening(conninfo: str, *delivered: bool) -> Iterator[tuple[Listener, list[bool]]]:
    """A listener whose proofs are delivered or not, by turns and then always; and what is left of the turns."""
    turns = list(delivered)

    def notify(channel: str, sent: Callable[[bool], None]) -> None:
        if not turns or turns.pop(0):
            with psycopg.connect(conninfo, autocommit=True) as conn:
                pgmq.notify(conn, channel)
        sent(True)

    listener = Listener(conninfo, SystemClock(), notify=notify)
    try:
        yield listener, turns
    finally:
        listener.close()


def listen(listener: Listener, queue: str) -> None:
    listen_now(listener, queue, lambda: None)


def test_notifications_arrive_through_it(session_pooled: str) -> None:
    with (
        running(session_pooled, jobs=[echo_job()], signal_strategy="notify", **SELDOM) as starter,
        pgflow.PgflowClient(session_pooled) as other,
    ):
        starter.await_ready(30)
        for i in range(3):
            assert other.enqueue("echo", i).wait(10).result == i
        assert starter.status().modules[0].status == "succeeded"


def test_a_connection_that_had_heard_before_is_replaced(session_pooled: str, caplog: pytest.LogCaptureFixture) -> None:
    with listening(session_pooled, True, False, True, False) as (listener, turns):
        listen(listener, "first")
        eventually(lambda: not turns, 10, "every turn to be taken")
        listen(listener, "second")
    assert "did not arrive" in caplog.text
    assert "pooler;" not in caplog.text


def test_a_first_notification_that_is_late_is_a_transient_failure(session_pooled: str) -> None:
    with listening(session_pooled, False) as (listener, _):
        with pytest.raises(DatabaseError, match="did not arrive"):
            listen(listener, "queue")
        listen(listener, "queue")


def test_through_a_transaction_pooler_it_says_so_at_the_second_try(pooled: str) -> None:
    with listening(pooled) as (listener, _):
        with pytest.raises(DatabaseError, match="did not arrive"):
            listen(listener, "queue")
        with pytest.raises(ListenUnsupportedError, match="transaction pooler"):
            listen(listener, "queue")


def test_a_server_that_is_not_behind_a_pooler_is_never_said_to_be(database: str) -> None:
    heard = threading.Event()
    with listening(database, False, False, False) as (listener, _):
        for _ in range(3):
            with pytest.raises(DatabaseError, match="did not arrive"):
                listen(listener, "queue")
        listen_now(listener, "queue", heard.set)
        with psycopg.connect(database, autocommit=True) as conn:
            pgmq.notify(conn, pgmq.channel("queue"))
        assert heard.wait(10)
