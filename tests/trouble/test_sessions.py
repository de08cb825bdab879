"""Sessions that the server ends, or that remember what somebody has changed, are nobody's error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.postgres.connections.pool import Pool
from tests.support.database import opened
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import OURS, Admin

WAIT = 30.0
CHANGES = [
    ("alter table pgflow.runs alter column status type varchar(30)", "a column's type"),
    ("alter table pgflow.runs alter column remaining_steps type bigint", "what a function remembers"),
    ("alter table pgflow.step_tasks alter column attempts_count type bigint", "what a claim returns"),
    ("alter table pgflow.runs add column note text", "one more column"),
    ("alter table pgflow.runs drop column note", "one less"),
]


def _gone(admin: Admin) -> bool:
    return not admin.execute(
        "select from pg_stat_activity where application_name = %s and datname = current_database()", (OURS,)
    ).fetchone()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_table_may_be_changed_under_workers_and_callers(database: str, admin: Admin, strategy: str) -> None:
    job = echo_job()
    with running(database, jobs=[job], signal_strategy=strategy) as starter:
        starter.await_ready(WAIT)
        for number in range(20):  # until all of it is prepared
            starter.client.enqueue(job, number).wait(WAIT)
        for change, what in CHANGES:
            admin.execute(change)
            assert starter.client.enqueue(job, what).wait(WAIT).result == what
        assert starter.status().outage is None


def test_a_session_that_the_server_ended_for_its_idleness_is_replaced_without_a_word(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    job = echo_job()
    idle = make_conninfo(database, options="-c idle_session_timeout=150ms", application_name=OURS)
    with pgflow.PgflowClient(idle) as client:
        for number in range(4):
            client.enqueue(job, number)
            eventually(lambda: _gone(admin), what="the end of the sessions")
        assert client.enqueue(job, "last").status == "started"
    assert [record.getMessage() for record in caplog.records if "away" in record.getMessage()] == []


def test_backends_that_somebody_ended_while_they_were_idle_are_no_error_of_the_next_caller(
    database: str, admin: Admin
) -> None:
    job = echo_job()
    ours = make_conninfo(database, application_name=OURS)
    with pgflow.PgflowClient(ours) as client:
        for number in range(4):
            client.enqueue(job, number)
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where application_name = %s and datname = current_database()",
                (OURS,),
            )
        assert client.enqueue(job, "last").status == "started"


def test_a_caller_that_comes_while_the_sessions_are_replaced_is_served_at_once(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.execute("create table changing (a int)")
    close = Pool.close
    served: list[object] = []

    def slowly(pool: Pool, **how: Any) -> None:
        if not served:
            served.append(threads.submit(db.call, lambda conn: conn.execute("select 1").fetchone()).result(WAIT))
        close(pool, **how)

    with opened(database, patience=WAIT / 2) as db, ThreadPoolExecutor() as threads:
        monkeypatch.setattr(Pool, "close", slowly)
        for kind in ("int", "bigint"):
            admin.execute(f"alter table changing alter column a type {kind}")
            db.call(lambda conn: conn.execute("select a from changing", prepare=True).fetchall())
    assert served == [(1,)]


def test_what_is_the_statements_own_error_is_told_after_a_fresh_session_had_it_too(database: str) -> None:
    with opened(database) as db:
        for _ in range(3):
            calls: list[int] = []

            def wrong(conn: psycopg.Connection[tuple[object, ...]], calls: list[int] = calls) -> None:
                calls.append(conn.info.backend_pid)
                conn.execute("select nothing_of_the_kind")

            with pytest.raises(pgflow.DatabaseError) as caught:
                db.call(wrong)
            assert caught.value.sqlstate == "42703"
            assert len(set(calls)) == len(calls) <= 2


def test_a_caller_whose_own_statements_fail_gives_nobody_else_what_a_session_remembers(
    database: str, admin: Admin
) -> None:
    job, poisoned = echo_job(), echo_job("poisoned")
    with pgflow.PgflowClient(database) as client:
        for number in range(5):
            client.enqueue(job, number)
            client.enqueue(poisoned, number)
        admin.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin"
            " raise exception 'no %', clock_timestamp() using errcode = '42703'; end $$"
        )
        admin.execute(
            "create trigger refuse before insert on pgflow.runs for each row"
            " when (new.flow_slug = 'poisoned') execute function refuse()"
        )
        for kind in ("varchar(30)", "text") * 4:
            with pytest.raises(pgflow.DatabaseError, match="no "):
                client.enqueue(poisoned, 1)
            admin.execute(f"alter table pgflow.runs alter column status type {kind}")
            assert client.enqueue(job, kind).status == "started"
