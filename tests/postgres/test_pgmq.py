"""Notifications of queues: enabled once, by however many at a time, and disabled."""

from __future__ import annotations

import threading

import psycopg
import pytest

from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.stores import pgmq
from tests.support.database import opened

QUEUE = "q_of_test"


@pytest.fixture
def queue(database: str) -> str:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("select pgmq.create(%s)", (QUEUE,))
    return database


def test_enabling_is_idempotent_and_skipped_when_it_is_so_already(queue: str) -> None:
    with opened(queue) as db, db.connection() as conn:
        assert pgmq.enable_notify(conn, QUEUE, 250)
        assert not pgmq.enable_notify(conn, QUEUE, 250)
        assert pgmq.enable_notify(conn, QUEUE, 0)
        conn.execute("select pgmq.disable_notify_insert(%s)", (QUEUE,))
        assert pgmq.enable_notify(conn, QUEUE, 0)


def test_a_throttle_row_that_a_crash_emptied_is_written_again(queue: str) -> None:
    with opened(queue) as db, db.connection() as conn:
        pgmq.enable_notify(conn, QUEUE, 250)
        conn.execute("truncate pgmq.notify_insert_throttle")
        assert pgmq.enable_notify(conn, QUEUE, 250)


@pytest.mark.parametrize(("mode", "again"), [("replica", True), ("always", False)])
def test_a_trigger_that_fires_for_replication_only_does_not_notify(queue: str, mode: str, again: bool) -> None:
    with opened(queue) as db, db.connection() as conn:
        pgmq.enable_notify(conn, QUEUE, 250)
        conn.execute(f"alter table pgmq.q_{QUEUE} enable {mode} trigger trigger_notify_queue_insert_listeners")
        assert pgmq.enable_notify(conn, QUEUE, 250) is again
        assert not pgmq.enable_notify(conn, QUEUE, 250)


def test_many_sessions_may_enable_one_queue_at_once(queue: str) -> None:
    errors: list[BaseException] = []
    together = threading.Barrier(8)

    def enable(throttle: int) -> None:
        together.wait(10)
        try:
            for i in range(10):
                with db.connection() as conn:
                    pgmq.enable_notify(conn, QUEUE, throttle + i % 2)
        except DatabaseError as error:
            errors.append(error)

    with opened(queue) as db:
        with db.connection():
            pass
        threads = [threading.Thread(target=enable, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert errors == []


def test_an_insert_notifies_the_channel_of_its_queue(queue: str) -> None:
    with opened(queue) as db, db.connection() as conn, psycopg.connect(queue, autocommit=True) as ears:
        pgmq.enable_notify(conn, QUEUE, 0)
        ears.execute(psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(pgmq.channel(QUEUE))))
        conn.execute("select pgmq.send(%s, '{}')", (QUEUE,))
        assert [n.channel for n in ears.notifies(timeout=5, stop_after=1)] == [f"pgmq.q_{QUEUE}.INSERT"]


def test_a_queue_that_is_not_there_is_refused(database: str) -> None:
    refused = pytest.raises(DatabaseError, match="does not exist")
    with opened(database) as db, refused as caught, db.connection() as conn:
        pgmq.enable_notify(conn, "no_such_queue", 250)
    assert caught.value.sqlstate == "P0001"
