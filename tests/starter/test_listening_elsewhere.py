"""LISTEN by an address of its own: both away at once, and back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.databases import FAST, memory_folder
from tests.support.proxy import Proxy
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

SELDOM = {"min_poll_interval": 60.0, "max_poll_interval": 60.0, "notify_fallback_interval": 60.0}


@pytest.fixture(scope="module")
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


@pytest.fixture
def ways(own_server: EmbeddedPostgres) -> Iterator[tuple[Proxy, Proxy]]:
    """To the pooled connections' server, and to the LISTEN connection's."""
    with Proxy(own_server) as work, Proxy(own_server) as listen:
        yield work, listen


def wired(ways: tuple[Proxy, Proxy], job: pgflow.Job) -> object:
    work, listen = ways
    return running(work.conninfo(), listen_conninfo=listen.conninfo(), jobs=[job], signal_strategy="notify", **SELDOM)


def twice_a_second(times: list[float]) -> bool:
    """Over all of them: a single one may be seen late, and the next one not. Two more were on their way before."""
    return len(times) <= 2 * (times[-1] - times[0]) + 3


def test_with_both_away_the_process_connects_twice_a_second_at_most(
    ways: tuple[Proxy, Proxy], own_server: EmbeddedPostgres
) -> None:
    work, listen = ways
    job = echo_job()
    with wired(ways, job) as starter:  # type: ignore[attr-defined]
        starter.await_ready(10)
        began = time.monotonic()
        work.refuse()
        listen.refuse()
        eventually(lambda: time.monotonic() - began > 5)
        times = sorted(at for way in ways for at in way.attempts() if at >= began)
        assert twice_a_second(times)
        assert all(any(at >= began + 3 for at in way.attempts()) for way in ways)
        back = time.monotonic()
        work.accept()
        listen.accept()
        eventually(lambda: starter.status().outage is None)
        eventually(lambda: any(at > back for at in listen.attempts()))
        assert time.monotonic() - back < 4
        with pgflow.PgflowClient(own_server.conninfo()) as other:  # which wakes nobody but by NOTIFY
            assert other.enqueue(job, 1).wait(5).result == 1


def test_with_the_listen_server_alone_away_it_is_back_in_half_a_second_and_work_goes_on(
    ways: tuple[Proxy, Proxy], own_server: EmbeddedPostgres
) -> None:
    _, listen = ways
    job = echo_job()
    with wired(ways, job) as starter:  # type: ignore[attr-defined]
        starter.await_ready(10)
        began = time.monotonic()
        listen.refuse()
        assert starter.client.enqueue(job, 1).wait(5).result == 1
        eventually(lambda: time.monotonic() - began > 3)
        assert twice_a_second([at for at in listen.attempts() if at >= began])
        assert starter.status().outage is None
        back = time.monotonic()
        listen.accept()
        eventually(lambda: any(at > back for at in listen.attempts()))
        assert time.monotonic() - back < 4
        with pgflow.PgflowClient(own_server.conninfo()) as other:
            assert other.enqueue(job, 2).wait(5).result == 2
