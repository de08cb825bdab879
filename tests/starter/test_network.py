"""A network that swallows, a server that has no connection to spare, a schema that is another one by now."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter import DatabaseError, ModuleStatus
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.told_errors import ToldErrors
from pgflow_starter.postgres.client.views import Views
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.database import opened
from tests.support.databases import FAST, memory_folder
from tests.support.proxy import Proxy
from tests.support.starters import STRATEGIES, echo_job, running, state
from tests.support.waiting import eventually

CONNECTIONS = 12
SILENCE = {"tcp_user_timeout": "700", "connect_timeout": "2"}


@pytest.fixture(scope="module")
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A small server on TCP."""
    settings = {**FAST, "max_connections": str(CONNECTIONS), "superuser_reserved_connections": "0"}
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=settings, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


@pytest.fixture
def proxy(own_server: EmbeddedPostgres) -> Iterator[Proxy]:
    with Proxy(own_server) as proxy:
        yield proxy


def test_the_page_waits_for_a_server_that_falls_silent_as_long_as_it_says(proxy: Proxy) -> None:
    with opened(proxy.conninfo()) as db:
        views = Views(Calls(db), ToldErrors(True, str))
        views.workers(patience=10)
        proxy.black_hole()
        with pytest.raises(DatabaseError, match=r"did not answer within 0\.8 s"):
            views.workers(patience=0.2)
        views.close()


def test_a_statement_that_is_never_answered_ends_as_a_connection_that_broke(proxy: Proxy) -> None:
    with opened(proxy.conninfo(**SILENCE)) as db:
        with db.connection() as conn:
            proxy.black_hole()
            began = time.monotonic()
            with pytest.raises(psycopg.OperationalError):
                conn.execute("select 1")
        assert 0.6 < time.monotonic() - began < 15 / 2  # without the setting it would be 15
        eventually(lambda: db.outage)
        proxy.accept()
        eventually(lambda: db.outage is None)
        with db.connection() as conn:
            assert conn.execute("select 1").fetchone() == (1,)


def test_closing_ends_statements_that_are_never_answered(proxy: Proxy) -> None:
    with opened(proxy.conninfo()) as db:
        errors: list[DatabaseError] = []
        entered = threading.Event()

        def hang() -> None:
            try:
                with db.connection() as conn:
                    proxy.black_hole()
                    entered.set()
                    conn.execute("select 1")
            except DatabaseError as error:
                errors.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        assert entered.wait(10)
        db.close()
        thread.join(5)
        assert [error.connection_lost for error in errors] == [True]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_a_black_hole_work_goes_on_although_the_old_connections_stay_silent(proxy: Proxy, strategy: str) -> None:
    job = echo_job()
    with running(proxy.conninfo(**SILENCE), jobs=[job], signal_strategy=strategy) as starter:
        starter.await_ready(10)
        proxy.black_hole()
        eventually(lambda: starter.status().outage, what="the outage")
        proxy.accept()
        eventually(lambda: starter.status().outage is None, what="the end of the outage")
        assert starter.client.enqueue(job, 1).wait(5).result == 1


def test_the_whole_process_connects_twice_a_second_at_most_while_the_database_is_away(proxy: Proxy) -> None:
    jobs = [echo_job(f"job_{i}") for i in range(20)]
    with running(proxy.conninfo(), jobs=jobs, signal_strategy="notify") as starter:
        starter.await_ready(10)
        began = time.monotonic()
        proxy.refuse()
        eventually(lambda: time.monotonic() - began > 3)
        times = [at for at in proxy.attempts() if at >= began]
        assert max(sum(at <= later < at + 1 for later in times) for at in times) <= 2
        proxy.accept()
        eventually(lambda: starter.status().outage is None)
        assert starter.client.enqueue(jobs[5], 1).wait(5).result == 1


def test_nor_does_it_connect_more_often_when_phases_are_under_way_as_a_black_hole_begins(proxy: Proxy) -> None:
    """Each phase that takes too long wants its statement cancelled, and asking for that is a connection as well."""
    jobs = [echo_job(f"job_{i}") for i in range(50)]
    proxy.delay(0.05)
    # A connection takes 0.4 s then: eight delays.
    with running(proxy.conninfo(), jobs=jobs, phase_timeout=2.0) as starter:
        eventually(lambda: any(m.phase == "worker" for m in starter.status().modules))
        eventually(lambda: any(m.status is ModuleStatus.SUCCEEDED for m in starter.status().modules))
        began = time.monotonic()
        proxy.black_hole()
        eventually(lambda: time.monotonic() - began > 4)
        times = [at for at in proxy.attempts() if at >= began]
        assert times
        assert max(sum(at <= later < at + 1 for later in times) for at in times) <= 2
        proxy.accept()
        starter.await_ready(20)


def test_a_server_that_has_no_connection_to_spare_is_no_outage_for_those_there_are(
    own_server: EmbeddedPostgres, proxy: Proxy
) -> None:
    with opened(proxy.conninfo(), patience=10) as db, ExitStack() as others:
        with db.connection() as conn:
            _take_all(own_server, others)
            asked = threading.Event()
            got: list[object] = []

            def ask() -> None:
                asked.set()
                with db.connection() as second:
                    got.append(second.execute("select 1").fetchone())

            before = len(proxy.attempts())
            asking = threading.Thread(target=ask)
            asking.start()
            assert asked.wait(5)
            eventually(lambda: len(proxy.attempts()) > before)
            assert db.outage is None
            assert conn.execute("select 2").fetchone() == (2,)
        asking.join(5)
        assert got == [(1,)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_schema_that_was_installed_anew_has_the_modules_register_again(database: str, strategy: str) -> None:
    job = echo_job()
    with (
        running(database, jobs=[job], signal_strategy=strategy, notify_fallback_interval=0.2) as starter,
        psycopg.connect(database, autocommit=True) as admin,
    ):
        starter.await_ready(10)
        attempts = state(starter, job).attempts
        eventually(lambda: _dropped(admin))
        install(database)
        eventually(lambda: state(starter, job).attempts > attempts)
        eventually(lambda: state(starter, job).status is ModuleStatus.SUCCEEDED)
        assert starter.client.enqueue(job, 1).wait(10).result == 1
        row = admin.execute("select count(*) from pgmq.notify_insert_throttle where queue_name = 'echo'").fetchone()
        assert row == (1 if strategy == "notify" else 0,)


def test_while_the_schema_is_away_a_module_keeps_its_status(database: str) -> None:
    job = echo_job()
    with (
        running(database, jobs=[job]) as starter,
        psycopg.connect(database, autocommit=True) as admin,
    ):
        starter.await_ready(10)
        before = state(starter, job)
        admin.execute("alter schema pgflow rename to pgflow_away")
        with pytest.raises(pgflow.PgflowError):
            starter.client.enqueue(job, 1)
        admin.execute("alter schema pgflow_away rename to pgflow")
        assert starter.client.enqueue(job, 2).wait(10).result == 2
        assert state(starter, job) == before


def _take_all(server: EmbeddedPostgres, stack: ExitStack) -> None:
    with suppress(psycopg.OperationalError):
        for _ in range(CONNECTIONS):
            stack.enter_context(psycopg.connect(server.conninfo()))


def _dropped(admin: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Dropping takes its locks in another order than the workers do."""
    try:
        admin.execute("drop schema if exists pgflow, pgmq cascade")
    except psycopg.errors.DeadlockDetected:
        return False
    return True
