"""An address where somebody listens and never answers: no thread of ours stays there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.connections.connection import gated
from tests.support.database import opened
from tests.support.starters import STRATEGIES, echo_job
from tests.support.threads import left_over, ours
from tests.support.waiting import eventually

CONNECT_TIMEOUT = 60


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        yield f"host=127.0.0.1 port={silent.getsockname()[1]} connect_timeout={CONNECT_TIMEOUT}"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_starting_and_asking_wait_for_nobody_and_stopping_leaves_no_thread(black_hole: str, strategy: str) -> None:
    before = ours()
    starter = pgflow.start(black_hole, jobs=[echo_job()], signal_strategy=pgflow.SignalStrategy(strategy))
    statuses = [starter.status() for _ in range(200)]
    assert {status.outage for status in statuses} == {None}  # nobody has been given up yet: none of these waited
    eventually(lambda: any(thread.name == "pgflow-database" for thread in ours() - before))
    threading.Event().wait(0.3)  # for whoever else connects
    began = time.monotonic()
    starter.stop(1)
    assert time.monotonic() - began < CONNECT_TIMEOUT / 2
    assert left_over(before, CONNECT_TIMEOUT / 2) == []


def test_a_client_that_is_closed_lets_its_callers_go_and_ends_its_threads(black_hole: str) -> None:
    before = ours()
    errors: list[BaseException] = []
    client = pgflow.PgflowClient(black_hole)

    def call() -> None:
        try:
            client.enqueue("echo", 1)
        except pgflow.PgflowError as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    eventually(lambda: ours() - before)
    client.close()
    caller.join(CONNECT_TIMEOUT / 2)
    assert ["closed" in str(error) for error in errors] == [True]
    assert left_over(before, CONNECT_TIMEOUT / 2) == []


def test_connecting_ends_when_nobody_wants_it_any_more(black_hole: str) -> None:
    wanted = threading.Event()
    wanted.set()
    threading.Timer(0.2, wanted.clear).start()
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match="no longer wanted"):
        gated(wanted.is_set).connect(black_hole)
    assert 0.1 < time.monotonic() - began < CONNECT_TIMEOUT / 2


def test_a_gated_connection_is_like_any_other(empty_database: str) -> None:
    with gated(lambda: True).connect(empty_database, autocommit=True) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    with opened(empty_database) as db, db.connection() as pooled:
        assert pooled.execute("select 1").fetchone() == (1,)


def test_what_libpq_says_about_an_address_comes_through() -> None:
    with pytest.raises(psycopg.OperationalError, match="refused"):
        gated(lambda: True).connect("host=127.0.0.1,127.0.0.1 port=1,1")
