"""Who gives up first: the server, by its own limits; then a request to cancel; at last we, and then it is said."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter import DatabaseError, OutcomeUnknownError
from pgflow_starter.postgres.embedded import EmbeddedPostgres
from pgflow_starter.postgres.install import install
from tests.support.database import opened
from tests.support.databases import FAST, memory_folder
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import LIMIT_MS, OURS, Admin

WAIT = 30.0


def test_the_server_ends_a_statement_before_we_do_and_the_connection_is_kept(soon: str) -> None:
    with opened(soon, pool_size=1) as db:
        with db.connection() as conn:
            before = conn.info.backend_pid
        with pytest.raises(DatabaseError) as caught, db.connection() as conn:
            conn.execute("select pg_sleep(60)")
        error = caught.value
        assert (error.sqlstate, error.timed_out, error.unknown, error.connection_lost) == ("57014", True, False, False)
        with db.connection() as conn:
            assert conn.info.backend_pid == before


@pytest.mark.parametrize("answers", [0.2, 3.0])
def test_a_call_with_a_limit_of_its_own_has_the_servers_below_it_in_the_same_transaction(
    soon: str, answers: float
) -> None:
    with opened(soon, pool_size=1) as db:
        wanted = f"{int(LIMIT_MS * answers * 2 / 3)}ms"
        show = "select current_setting('statement_timeout')"
        with db.connection(answers=answers) as conn:
            assert conn.execute(show).fetchone() == (wanted if answers < 1 else "3s",)
            with conn.transaction():
                assert conn.execute(show).fetchone() == (wanted if answers < 1 else "3s",)
            with conn.pipeline(), conn.transaction():
                cursor = conn.execute(show)
            assert cursor.fetchone() == (wanted if answers < 1 else "3s",)
        with db.connection() as conn:
            assert conn.execute(show).fetchone() == ("1s",)


def test_the_server_looks_whether_its_client_is_still_there(soon: str) -> None:
    with opened(soon) as db, db.connection() as conn:
        assert conn.execute("select current_setting('client_connection_check_interval')").fetchone() == ("2s",)


@pytest.fixture
def lonely(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server that waits for a synchronous standby which there is not, in sessions that want it."""
    settings = {**FAST, "synchronous_standby_names": "nobody", "synchronous_commit": "local"}
    with EmbeddedPostgres(version=pg_version, settings=settings, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


def test_a_commit_that_waits_for_a_standby_is_cancelled_and_how_it_came_out_is_known(lonely: EmbeddedPostgres) -> None:
    job = echo_job()
    patient = lonely.conninfo()
    soon = make_conninfo(patient, tcp_user_timeout=LIMIT_MS, application_name=OURS)
    with (
        running(soon, jobs=[job]) as starter,
        psycopg.connect(patient, autocommit=True) as admin,
    ):
        starter.await_ready(WAIT)
        admin.execute("alter system set synchronous_commit = on")
        admin.execute("select pg_reload_conf()")
        eventually(lambda: _commits_wait(soon))
        run = starter.client.enqueue(job, 1)  # whose commit nobody confirms
        assert run.wait(WAIT).result == 1
        assert admin.execute("select count(*) from pgflow.step_tasks where status <> 'completed'").fetchone() == (0,)


def _commits_wait(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as conn:
        return conn.execute("show synchronous_commit").fetchone() == ("on",)


def test_a_call_that_was_given_up_and_may_be_carried_out_says_so_with_the_id_that_makes_it_safe_to_repeat(
    soon: str, admin: Admin, server: EmbeddedPostgres
) -> None:
    job = echo_job()
    with pgflow.PgflowClient(soon) as client:
        client.enqueue(job, 0)
        frozen = [
            pid
            for (pid,) in admin.execute(
                "select pid from pg_stat_activity where application_name = %s and datname = current_database()", (OURS,)
            ).fetchall()
        ]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(OutcomeUnknownError, match="may be carried out all the same") as caught:
                while True:  # until the one that is frozen is taken, and its replacement as well
                    client.enqueue(job, 1)
                    _freeze_all(admin)
        finally:
            _thaw_all(admin)
        (run_id,) = caught.value.run_ids
        assert str(run_id) in str(caught.value)
        eventually(lambda: client.enqueue(job, 1, run_id=run_id).id == run_id)
        count = admin.execute("select count(*) from pgflow.runs where run_id = %s", (run_id,)).fetchone()
        assert count == (1,)


def _ours(admin: Admin) -> list[int]:
    rows = admin.execute(
        "select pid from pg_stat_activity where application_name = %s and datname = current_database()", (OURS,)
    ).fetchall()
    return [pid for (pid,) in rows]


def _freeze_all(admin: Admin) -> None:
    for pid in _ours(admin):
        os.kill(pid, signal.SIGSTOP)


def _thaw_all(admin: Admin) -> None:
    for pid in _ours(admin):
        os.kill(pid, signal.SIGCONT)


def test_a_backend_that_was_given_up_is_ended_and_takes_a_place_until_then(soon: str, admin: Admin) -> None:
    with opened(soon, pool_size=2) as db:
        with db.connection() as conn:
            pid = conn.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseError) as caught, db.connection() as conn:
                conn.execute("select 1")
            assert (caught.value.error_type, caught.value.unknown) == ("AnswerTimeout", True)
            eventually(lambda: db.outage is None)
            with db.connection() as other:
                assert other.info.backend_pid != pid
                with pytest.raises(DatabaseError, match="no connection came free"), db.connection(patience=0.1):
                    pass
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: pid not in _ours(admin), what="the end of the backend")
        with db.connection(), db.connection(patience=5):
            pass
