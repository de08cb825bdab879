"""Green means that work moves: what keeps a worker from it is told, turns its module, and is over by itself."""

from __future__ import annotations

import logging
import time
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import pgflow_starter as pgflow
from pgflow_starter.core.trouble import LASTING
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.waiting import eventually
from tests.trouble.colours import WAIT, becomes_green, becomes_red, told, told_trouble, trouble, worker_role
from tests.trouble.conftest import Admin

pytestmark = pytest.mark.usefixtures("lasting")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_the_right_to_archive_it_is_red_and_green_again_by_the_grant(
    database: str, admin: Admin, strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgflow_starter")
    job = echo_job()
    with worker_role(admin, database) as (role, conninfo), running(conninfo, jobs=[job], signal_strategy=strategy) as s:
        s.await_ready(WAIT)
        admin.execute(sql.SQL("revoke insert on pgmq.a_echo from {}").format(sql.Identifier(role)))
        began = s.status().modules[0].updated_at
        runs = s.client.enqueue_many(job, range(5))
        found = becomes_red(s, "permission denied for table a_echo")
        assert (found.kind, found.error_type) == ("outcomes_refused", "42501")
        assert "db grant" in found.reason
        assert (s.status().modules[0].updated_at - began).total_seconds() >= LASTING
        admin.execute(sql.SQL("grant insert on pgmq.a_echo to {}").format(sql.Identifier(role)))
        becomes_green(s)
        assert [run.wait(WAIT).result for run in runs] == [*range(5)]
    assert (told(caplog, "trouble (outcomes_refused, scope all)"), told(caplog, "trouble is over")) == (1, 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_under_row_level_security_it_is_red_and_green_again_when_that_is_lifted(
    database: str, admin: Admin, strategy: str
) -> None:
    job = echo_job()
    with worker_role(admin, database) as (_, conninfo), running(conninfo, jobs=[job], signal_strategy=strategy) as s:
        s.await_ready(WAIT)
        admin.execute("alter table pgflow.step_tasks enable row level security")
        with pgflow.PgflowClient(database) as client:
            run = client.enqueue(job, 1)
            found = becomes_red(s, "row level security hides rows of pgflow.step_tasks")
            assert found.kind == "unstarted"
            admin.execute("alter table pgflow.step_tasks disable row level security")
            becomes_green(s)
            assert run.wait(WAIT).result == 1


def test_messages_that_row_level_security_hides_are_told_as_hidden_and_not_as_lost(database: str, admin: Admin) -> None:
    job = echo_job()
    with worker_role(admin, database) as (_, conninfo), running(conninfo, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        admin.execute("alter table pgmq.q_echo enable row level security")
        with pgflow.PgflowClient(database) as client:
            run = client.enqueue(job, 1)
            becomes_red(starter, "row level security hides the messages of 1 of 1 queued tasks in pgmq.q_echo")
            admin.execute("alter table pgmq.q_echo disable row level security")
            becomes_green(starter)
            assert run.wait(WAIT).result == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_purged_queue_is_red_and_its_reason_holds_the_statement_that_mends_it(
    database: str, admin: Admin, strategy: str
) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        runs = client.enqueue_many(job, range(20))
        admin.execute("select pgmq.purge_queue('echo')")
        with running(database, jobs=[job], signal_strategy=strategy) as starter:
            starter.await_ready(WAIT)
            found = becomes_red(starter, "20 of 20 queued tasks have no message in pgmq.q_echo")
            assert found.kind == "messages_lost"
            admin.execute(found.reason.partition("sent anew by: ")[2].encode())
            assert [run.wait(WAIT).result for run in runs] == [*range(20)]
            becomes_green(starter)


def test_new_work_that_moves_makes_trouble_with_the_lost_one_of_some(database: str, admin: Admin) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        client.enqueue_many(job, range(3))
        admin.execute("select pgmq.purge_queue('echo')")
        with running(database, jobs=[job]) as starter:
            starter.await_ready(WAIT)
            becomes_red(starter, "3 of 3")
            assert client.enqueue(job, "new").wait(WAIT).result == "new"
            eventually(starter.ready, WAIT)
            found = trouble(starter)
            assert found is not None
            assert (found.kind, found.scope) == ("messages_lost", "some")


def test_foreign_messages_among_real_ones_are_told_and_turn_nothing(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgflow_starter")
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        for number in range(30):
            admin.execute(
                "select pgmq.send_batch('echo', array(select '{\"foreign\": true}'::jsonb from generate_series(1, 10)))"
            )
            assert starter.client.enqueue(job, number).wait(WAIT).result == number
        found = told_trouble(starter)
        assert (found.kind, found.scope, found.error_type) == ("unstarted", "some", "")
        assert "pgmq.q_echo" in found.reason
        assert starter.ready()
        admin.execute("select pgmq.purge_queue('echo')")
        eventually(lambda: trouble(starter) is None, WAIT)
    assert (told(caplog, "trouble (unstarted, scope some)"), told(caplog, "trouble is over")) == (1, 1)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("table", ["pgflow.runs", "pgflow.step_tasks", "pgmq.q_echo"])
def test_a_locked_table_is_told_once_and_over_when_it_is_released(
    database: str, table: str, strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgflow_starter")
    job = echo_job()
    with running(database, jobs=[job], signal_strategy=strategy) as starter, psycopg.connect(database) as holder:
        starter.await_ready(WAIT)
        run = starter.client.enqueue(job, 1)
        run.wait(WAIT)
        starter.client.enqueue(job, 2)
        holder.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(table)))
        found = becomes_red(starter, "lock")
        assert found.error_type == "55P03"
        holder.rollback()
        becomes_green(starter)
    assert (told(caplog, "trouble ("), told(caplog, "trouble is over")) in ((1, 1), (2, 2))  # claims, and an outcome


def test_one_outcome_that_is_refused_is_told_and_turns_nothing(database: str, admin: Admin) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client, running(database, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        admin.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$"
        )
        run = uuid4()
        admin.execute(
            f"create trigger refuse before update on pgflow.runs for each row when (old.run_id = '{run}')"
            " execute function refuse()"
        )
        parked = client.enqueue(job, 1, run_id=run)
        found = told_trouble(starter)
        assert (found.kind, found.scope) == ("outcomes_refused", "some")
        assert str(run) in found.reason
        assert client.enqueue(job, 2).wait(WAIT).result == 2
        assert starter.ready()
        admin.execute("drop trigger refuse on pgflow.runs")
        assert parked.wait(WAIT).result == 1
        eventually(lambda: trouble(starter) is None, WAIT)


def test_an_attempt_ends_no_trouble(database: str, admin: Admin) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        client.enqueue_many(job, range(3))
        admin.execute("select pgmq.purge_queue('echo')")
        with running(database, jobs=[job]) as starter:
            starter.await_ready(WAIT)
            becomes_red(starter, "3 of 3")
            ready = False
            starter.retry_now("echo")
            until = time.monotonic() + WAIT
            while (state := starter.module_status("echo")) and (state.attempts < 2 or state.phase == "registry"):
                assert time.monotonic() < until
                ready = ready or starter.ready()
            becomes_red(starter, "3 of 3")
            assert not ready
