"""The proxy that breaks the network for other tests: what is slow is slow, and nothing piles up in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.databases import FAST, memory_folder
from tests.support.ends import CHUNK, ENOUGH
from tests.support.proxy import Proxy
from tests.support.throttle import MOMENT, Throttle
from tests.support.waiting import eventually

RATE = 200_000


@pytest.fixture(scope="module")
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as server:
        yield server


@pytest.fixture
def proxy(own_server: EmbeddedPostgres) -> Iterator[Proxy]:
    with Proxy(own_server) as proxy:
        yield proxy


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(proxy.conninfo(), autocommit=True) as connection:
        yield connection


def test_a_throttle_takes_its_rate_and_never_more_than_a_moments_bytes_at_once() -> None:
    throttle = Throttle(1024, now=10.0)
    assert throttle.credit(10.0) == 0
    assert throttle.credit(10.0 + 1 / 64) == 16
    throttle.spend(16)
    assert throttle.credit(10.0 + 1 / 64) == 0
    assert throttle.credit(20.0) == int(1024 * MOMENT)


def test_a_throttle_says_when_it_takes_enough_to_be_worth_while() -> None:
    throttle = Throttle(RATE, now=0.0)
    assert throttle.next(0.0) == pytest.approx(MOMENT / 2)
    assert throttle.next(MOMENT) == MOMENT


@pytest.mark.parametrize(
    ("statement", "given"),
    [("select repeat('x', %s)", RATE // 2), ("select length(%s)", "x" * (RATE // 2))],
    ids=["from the server", "to the server"],
)
def test_a_slow_link_hands_on_no_more_than_its_rate_until_it_is_mended(
    proxy: Proxy, connection: psycopg.Connection[tuple[object, ...]], statement: str, given: object
) -> None:
    proxy.throttle(RATE)
    slow = _seconds(connection, statement, given)
    proxy.accept()
    assert slow > 0.5 - MOMENT
    assert _seconds(connection, statement, given) < slow / 2


def test_all_connections_share_a_slow_link(proxy: Proxy) -> None:
    with psycopg.connect(proxy.conninfo()) as one, psycopg.connect(proxy.conninfo()) as other:
        proxy.throttle(RATE)
        began = time.monotonic()
        threads = [
            threading.Thread(target=connection.execute, args=("select repeat('x', %s)", (RATE // 4,)))
            for connection in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began > 0.5 - MOMENT


def test_behind_a_slow_link_the_server_is_held_up_and_not_the_proxy_filled(
    proxy: Proxy, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    size = 20_000_000
    lengths: list[int] = []

    def fetch() -> None:
        row = connection.execute("select repeat('x', %s)", (size,)).fetchone()
        lengths.append(len(str(row[0])) if row else 0)

    proxy.throttle(RATE)
    thread = threading.Thread(target=fetch)
    thread.start()
    eventually(lambda: proxy.most_queued >= ENOUGH)
    proxy.accept()
    thread.join(30)
    assert lengths == [size]
    assert proxy.most_queued < ENOUGH + CHUNK


def test_a_client_that_reads_nothing_holds_up_nobody_else(
    proxy: Proxy, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    silent = psycopg.connect(proxy.conninfo())
    silent.pgconn.send_query(b"select repeat('x', 50000000)")
    eventually(lambda: proxy.most_queued >= ENOUGH)
    assert connection.execute("select 1").fetchone() == (1,)
    assert proxy.most_queued < ENOUGH + CHUNK
    silent.close()


def _seconds(connection: psycopg.Connection[tuple[object, ...]], statement: str, given: object) -> float:
    began = time.monotonic()
    connection.execute(statement, (given,))
    return time.monotonic() - began
