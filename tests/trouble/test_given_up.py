"""Who gives up first: the server, by its own limits; then a request to cancel; at last we, and then it is said."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter import DatabaseError, OutcomeUnknownError
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.database import opened
from tests.support.proxy import Proxy
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import LIMIT_MS, OURS, Admin, started, statuses

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


def test_a_commit_that_waits_for_a_standby_is_cancelled_and_how_it_came_out_is_known(
    own_server: EmbeddedPostgres,
) -> None:
    job = echo_job()
    soon = make_conninfo(own_server.conninfo(), tcp_user_timeout=LIMIT_MS, application_name=OURS)
    with (
        running(soon, jobs=[job]) as starter,
        psycopg.connect(own_server.conninfo(), autocommit=True) as admin,
    ):
        starter.await_ready(WAIT)
        starter.client.enqueue(job, 0).wait(WAIT)
        admin.execute("set synchronous_commit = local")
        admin.execute("alter system set synchronous_standby_names = 'nobody'")
        admin.execute("select pg_reload_conf()")
        waiting = "select 1 from pg_stat_activity where wait_event = 'SyncRep' and application_name = %s"
        calling = threading.Thread(target=starter.client.enqueue, args=(job, 1))
        calling.start()
        eventually(lambda: admin.execute(waiting, (OURS,)).fetchone(), WAIT)
        calling.join(WAIT)
        run = starter.client.enqueue(job, 2)  # whose commit nobody confirms
        assert run.wait(WAIT).result == 2
        eventually(lambda: statuses(admin).keys() == {"completed"}, WAIT)
        assert started(admin) == 0
        admin.execute("alter system reset synchronous_standby_names")
        admin.execute("select pg_reload_conf()")


def test_a_call_that_was_given_up_and_may_be_carried_out_says_so_with_the_id_that_makes_it_safe_to_repeat(
    own_server: EmbeddedPostgres,
) -> None:
    job = echo_job()
    with (
        Proxy(own_server) as proxy,
        pgflow.PgflowClient(proxy.conninfo(tcp_user_timeout=str(LIMIT_MS), connect_timeout="2")) as client,
    ):
        client.enqueue(job, 0)
        proxy.black_hole()
        with pytest.raises(OutcomeUnknownError, match="may be carried out all the same") as caught:
            client.enqueue(job, 1)
        (run_id,) = caught.value.run_ids
        assert str(run_id) in str(caught.value)
        with pytest.raises(DatabaseError) as nothing:
            client.enqueue(job, 2)  # now the database is known to be away
        assert not isinstance(nothing.value, OutcomeUnknownError)
        proxy.accept()
        again = eventually(lambda: _unless_away(lambda: client.enqueue(job, 1, run_id=run_id)), WAIT)
        assert again is not None
        assert again.id == run_id
        with psycopg.connect(own_server.conninfo()) as admin:
            count = admin.execute("select count(*) from pgflow.runs where run_id = %s", (run_id,)).fetchone()
        assert count == (1,)


def _unless_away(call: Callable[[], pgflow.Run]) -> pgflow.Run | None:
    try:
        return call()
    except DatabaseError:
        return None


def _ours(admin: Admin) -> list[int]:
    rows = admin.execute(
        "select pid from pg_stat_activity where application_name = %s and datname = current_database()", (OURS,)
    ).fetchall()
    return [pid for (pid,) in rows]


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


def test_idle_connections_that_a_black_hole_swallowed_are_ended_on_the_server_when_it_can_be_reached_again(
    own_server: EmbeddedPostgres,
) -> None:
    size, options = 3, {"application_name": OURS, "tcp_user_timeout": "700", "connect_timeout": "2"}
    with (
        Proxy(own_server) as proxy,
        opened(proxy.conninfo(**options), pool_size=size) as db,
        psycopg.connect(own_server.conninfo(), autocommit=True) as admin,
    ):
        with db.connection(), db.connection(), db.connection():
            before = set(_ours(admin))
        assert len(before) == size
        proxy.black_hole()
        with pytest.raises(DatabaseError), db.connection() as conn:
            conn.execute("select 1")
        proxy.accept()
        eventually(lambda: db.outage is None and not before & set(_ours(admin)), WAIT, "the end of the old backends")
        with db.connection(), db.connection(patience=5), db.connection(patience=5):
            assert len(_ours(admin)) <= size + 1
