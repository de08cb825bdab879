"""A database that is down, wrong, or goes away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter import ModuleStatus
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.databases import FAST, memory_folder
from tests.support.starters import STRATEGIES, echo_job, opened, running, state
from tests.support.threads import ours
from tests.support.waiting import eventually


@pytest.fixture
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, on TCP, everything installed, to be stopped and started."""
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_modules_of_a_starter_begun_with_the_database_down_succeed_once_it_is_up(
    own_server: EmbeddedPostgres, strategy: str
) -> None:
    own_server.stop()
    jobs = [echo_job(f"job_{i}") for i in range(20)]
    with running(own_server.conninfo(), jobs=jobs, signal_strategy=strategy) as starter:
        eventually(lambda: all(m.attempts >= 2 for m in starter.status().modules), what="a second attempt of each")
        for module in starter.status().modules:
            assert module.status is ModuleStatus.RETRYING
            assert module.last_error is not None
            assert (module.last_error.error_class, module.last_error.phase) == ("transient", "worker")
            assert "refused" in module.last_error.reason
        assert not starter.ready()
        assert starter.status().outage is not None
        own_server.start()
        starter.await_ready(10)
        assert starter.status().outage is None
        assert all(m.status is ModuleStatus.SUCCEEDED and m.last_error is None for m in starter.status().modules)
        assert starter.client.enqueue(jobs[3], "x").wait(10).result == "x"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_database_changes_no_status_and_work_goes_on(
    own_server: EmbeddedPostgres, strategy: str, mode: str
) -> None:
    job = echo_job()
    with running(own_server.conninfo(), jobs=[job], signal_strategy=strategy) as starter:
        starter.await_ready(10)
        before = state(starter, job)
        own_server.stop(mode)  # type: ignore[arg-type]
        eventually(lambda: starter.status().outage, what="the outage")
        assert starter.ready()
        with pytest.raises(pgflow.PgflowError, match="cannot be reached"):
            starter.client.enqueue(job, 1)
        own_server.start()
        eventually(lambda: starter.status().outage is None, what="the end of the outage")
        assert starter.client.enqueue(job, 2).wait(10).result == 2
        assert state(starter, job) == before


def test_an_outage_is_told_in_one_warning_not_one_an_attempt(
    own_server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    own_server.stop()
    caplog.set_level(logging.WARNING, "pgflow_starter")
    with running(own_server.conninfo(), jobs=[echo_job()]) as starter:
        eventually(lambda: starter.status().modules[0].attempts >= 3)
    assert len([r for r in caplog.records if "away" in r.message]) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_outage_while_running_is_two_warnings_in_all(
    own_server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, strategy: str
) -> None:
    jobs = [echo_job(f"job_{i}") for i in range(10)]
    with running(own_server.conninfo(), jobs=jobs, signal_strategy=strategy) as starter:
        starter.await_ready(10)
        for run in [starter.client.enqueue(job, 1) for job in jobs]:
            run.wait(10)
        caplog.clear()
        own_server.stop("immediate")
        eventually(lambda: starter.status().outage)
        with pytest.raises(pgflow.PgflowError):
            starter.client.enqueue(jobs[0], 1)
        own_server.start()
        eventually(lambda: starter.status().outage is None)
        assert [starter.client.enqueue(job, 2).wait(10).result for job in jobs] == [2] * 10
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 2
    assert told[0].startswith("the database is away: ")
    assert told[1] == "the database is back"


def test_a_stop_in_an_outage_says_once_that_it_could_not_be_written_and_promises_nothing(
    own_server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, release: threading.Event
) -> None:
    running_tasks: list[str] = []

    def hanging(slug: str) -> pgflow.Job:
        @pgflow.job(slug)
        def hang(message: object, ctx: pgflow.TaskContext) -> None:
            running_tasks.append(slug)
            release.wait()

        return hang

    jobs = [hanging(f"job_{i}") for i in range(5)]
    with running(own_server.conninfo(), jobs=jobs) as starter:
        starter.await_ready(30)
        for job in jobs:
            starter.client.enqueue(job)
        eventually(lambda: len(running_tasks) == len(jobs), 30)
        own_server.stop("immediate")
        eventually(lambda: starter.status().outage, 30)
        starter.stop(0)
    own_server.start()
    with psycopg.connect(own_server.conninfo()) as admin:
        left = admin.execute("select status from pgflow.step_tasks").fetchall()
    assert left == [("started",)] * 5
    workers = [r.getMessage() for r in caplog.records if r.name == "pgflow_starter.workers"]
    assert sum("the end of the workers could not be written" in text for text in workers) == 1
    assert sum("1 tasks did not end in time and go to others when this worker" in text for text in workers) == 5
    assert len(workers) == 6
    assert "given back" not in caplog.text


def test_a_starter_that_finds_no_thread_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ours()

    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    real = threading.Thread.start
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda self: none_left(self) if "root" in self.name else real(self))
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pgflow.start("host=127.0.0.1 port=1", jobs=[echo_job()], signal_strategy="notify")
    assert ours() == before


def test_terminated_backends_are_replaced(own_server: EmbeddedPostgres) -> None:
    job = echo_job()
    with running(own_server.conninfo(), jobs=[job], signal_strategy="notify") as starter:
        starter.await_ready(10)
        for i in range(5):
            with psycopg.connect(own_server.conninfo(), autocommit=True) as admin:
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where pid <> pg_backend_pid() and application_name = 'pgflow_starter'"
                )
            assert starter.client.enqueue(job, i).wait(10).result == i
        assert state(starter, job).status is ModuleStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dbname": "nowhere"}, "does not exist"),
        ({"user": "nobody_at_all"}, "does not exist"),
        ({"sslmode": "bogus"}, "sslmode"),
        ({"port": "ten"}, "port"),
    ],
)
def test_a_wrong_connection_string_fails_for_good(server: EmbeddedPostgres, change: dict[str, str], words: str) -> None:
    conninfo = psycopg.conninfo.make_conninfo(server.conninfo(), **change)
    with running(conninfo, jobs=[echo_job()]) as starter:
        starter.await_ready(10)
        failed = starter.status().modules[0]
        assert failed.status is ModuleStatus.FAILED_PERMANENT
        assert failed.last_error is not None
        assert words in failed.last_error.reason


def test_without_pgmq_a_module_fails_for_good_and_says_how_to_install_it(empty_database: str) -> None:
    with running(empty_database, jobs=[echo_job()]) as starter:
        starter.await_ready(10)
        failed = starter.status().modules[0]
        assert failed.status is ModuleStatus.FAILED_PERMANENT
        assert failed.last_error is not None
        assert "pgflow-starter db install" in failed.last_error.reason
        with pytest.raises(pgflow.PgflowError, match="pgflow-starter db install"):
            starter.client.enqueue("echo", 1)


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://bob:topsecret@127.0.0.1:1/x",
        "postgresql://bob:top@secret@127.0.0.1:1/x",
        "postgresql://bob:top%2Fsecret@127.0.0.1:1/x",
        "host=127.0.0.1 port=1 password=topsecret",
        "host=127.0.0.1 port=1 password='topsecret",
        "garbage password=topsecret",
        "host=127.0.0.1 port=1 password=my topsecret",
    ],
)
def test_no_password_is_shown_anywhere(conninfo: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        opened(conninfo, jobs=[echo_job()], signal_strategy="notify") as (starter, runtime),
    ):
        eventually(lambda: starter.status().modules[0].last_error)
        shown = f"{starter!r} {starter.status()} {starter.status().to_dict()} {runtime.settings} {caplog.text}"
        try:
            starter.client.enqueue("echo", 1)
        except pgflow.PgflowError as error:
            shown += f"{error!r} {error}"
    assert "topsecret" not in shown
    assert "secret" not in shown
