"""A role or a server that allows fewer connections than the pool would like: the LISTEN connection gets one of them."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.databases import FAST, memory_folder
from tests.support.starters import STRATEGIES, echo_job, running

SLOTS = 6


@pytest.fixture(scope="module")
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server with a handful of connections for roles that are no superusers."""
    settings = {**FAST, "max_connections": str(SLOTS + 3), "superuser_reserved_connections": "3"}
    with EmbeddedPostgres(version=pg_version, settings=settings, parent=memory_folder()) as server:
        yield server


@pytest.fixture
def limited(request: pytest.FixtureRequest, own_server: EmbeddedPostgres) -> Iterator[str]:
    """A database that belongs to a role which may have that many connections."""
    with psycopg.connect(own_server.conninfo(), autocommit=True) as admin:
        admin.execute(f"create role app login connection limit {request.param}")
        admin.execute("create database app owner app")
        conninfo = make_conninfo(own_server.conninfo("app"), user="app")
        install(conninfo)
        try:
            yield conninfo
        finally:
            admin.execute("drop database app with (force)")
            admin.execute("drop role app")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("limited", [-1, 3], indirect=True, ids=["server", "role of 3"])
def test_modules_get_ready_and_work_goes_on(limited: str, strategy: str) -> None:
    jobs = [echo_job(f"job_{i}") for i in range(20)]
    with running(limited, jobs=jobs, signal_strategy=strategy, pool_size=10) as starter:
        starter.await_ready(10)
        assert starter.healthy()
        runs = [starter.client.enqueue(jobs[i % 20], i) for i in range(200)]
        assert [run.wait(20).result for run in runs] == list(range(200))
        assert starter.status().outage is None


@pytest.mark.parametrize("limited", [4], indirect=True)
def test_a_listen_connection_that_was_lost_is_found_room_for(limited: str, own_server: EmbeddedPostgres) -> None:
    job = echo_job()
    with (
        running(limited, jobs=[job], signal_strategy="notify", pool_size=3, notify_fallback_interval=600) as starter,
        psycopg.connect(own_server.conninfo("app"), autocommit=True) as admin,
    ):
        starter.await_ready(10)
        for i in range(3):
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%'")
            assert starter.client.enqueue(job, i).wait(10).result == i
