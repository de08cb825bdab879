"""The listener: one connection, every queue, and back again when it was lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.listening.listener import Listener
from pgflow_starter.postgres.stores.pgmq import channel
from tests.support.listening import listen_now
from tests.support.waiting import eventually


@pytest.fixture
def listener(empty_database: str) -> Iterator[Listener]:
    listener = Listener(empty_database, SystemClock())
    yield listener
    listener.close()


@pytest.fixture
def admin(empty_database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        yield connection


def _notify(admin: psycopg.Connection[tuple[object, ...]], queue: str) -> None:
    admin.execute("select pg_notify(%s, '')", (channel(queue),))


def _kill_listener(admin: psycopg.Connection[tuple[object, ...]]) -> int:
    row = admin.execute(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where pid <> pg_backend_pid() and datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def test_a_notification_wakes_its_queue_and_no_other(
    listener: Listener, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    woken: dict[str, threading.Event] = {name: threading.Event() for name in ("a", "b")}
    for name, event in woken.items():
        listen_now(listener, name, event.set)
    _notify(admin, "b")
    assert woken["b"].wait(5)
    assert not woken["a"].is_set()


def test_listening_again_replaces_who_is_woken(
    listener: Listener, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    old, new = threading.Event(), threading.Event()
    listen_now(listener, "q", old.set)
    listen_now(listener, "q", new.set)
    _notify(admin, "q")
    assert new.wait(5)
    assert not old.is_set()


def test_hundreds_of_queues_share_one_connection(
    listener: Listener, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    events = [threading.Event() for _ in range(300)]
    for i, event in enumerate(events):
        listen_now(listener, f"q{i}", event.set)
    for i in range(300):
        _notify(admin, f"q{i}")
    assert all(event.wait(5) for event in events)
    assert _kill_listener(admin) == 1


def test_a_lost_connection_comes_back_listens_again_and_wakes_everybody_once(
    listener: Listener, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    woken = threading.Semaphore(0)
    listen_now(listener, "q", woken.release)
    for _ in range(3):
        _kill_listener(admin)
        assert woken.acquire(timeout=10)
        _notify(admin, "q")
        assert woken.acquire(timeout=10)


def test_a_queue_that_is_listened_to_no_more_wakes_nobody(
    listener: Listener, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    dropped, kept = threading.Event(), threading.Event()
    listen_now(listener, "dropped", dropped.set)
    listener.unlisten("dropped")
    listen_now(listener, "kept", kept.set)
    _notify(admin, "dropped")
    _notify(admin, "kept")
    assert kept.wait(5)
    assert not dropped.is_set()


def test_a_wake_that_raises_harms_no_other(
    listener: Listener, admin: psycopg.Connection[tuple[object, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    woken = threading.Event()
    listen_now(listener, "bad", lambda: 1 / 0)
    listen_now(listener, "good", woken.set)
    _notify(admin, "bad")
    _notify(admin, "good")
    assert woken.wait(5)
    eventually(lambda: "ZeroDivisionError" in caplog.text)


def test_without_a_server_listening_fails_with_the_reason() -> None:
    listener = Listener("host=127.0.0.1 port=1 password=topsecret", SystemClock())
    try:
        with pytest.raises(DatabaseError, match="refused") as caught:
            listen_now(listener, "q", lambda: None)
        assert caught.value.connection_lost
    finally:
        listener.close()
    with pytest.raises(DatabaseError, match="closed"):
        listen_now(listener, "q", lambda: None)
