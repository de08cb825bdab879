"""What counts as work that moves, and what does not: neither red where it does, nor green where it does not."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.stores.evidence import SAMPLE, Looks
from tests.support.database import opened
from tests.support.starters import STRATEGIES, await_state, echo_job, running
from tests.support.waiting import eventually
from tests.trouble.colours import WAIT, becomes_green, becomes_red, told, told_trouble, trouble, worker_role
from tests.trouble.conftest import Admin

pytestmark = pytest.mark.usefixtures("lasting")


# Row level security


@pytest.mark.parametrize(
    ("table", "policy"),
    [
        ("pgmq.q_echo", "for select using (true)"),
        ("pgflow.runs", "for select using (true)"),
        ("pgflow.step_states", "for select using (true)"),
        ("pgmq.a_echo", "for select using (true)"),
    ],
)
def test_rows_that_can_be_seen_and_not_written_are_red_until_there_is_a_policy_for_that(
    database: str, admin: Admin, table: str, policy: str
) -> None:
    job = echo_job()
    with worker_role(admin, database) as (_, conninfo), running(conninfo, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        admin.execute(f"alter table {table} enable row level security; create policy p on {table} {policy}")
        with pgflow.PgflowClient(database) as client:
            client.enqueue_many(job, range(3))
            becomes_red(starter, "security policy" if "a_" in table else f"ALTER TABLE {table} DISABLE ROW LEVEL")
            admin.execute(f"create policy all_of_it on {table} using (true) with check (true)")
            becomes_green(starter)
            assert client.enqueue(job, "after").wait(WAIT).result == "after"


def test_a_policy_that_shows_all_hides_nothing_and_foreign_messages_turn_nothing(database: str, admin: Admin) -> None:
    job = echo_job()
    with worker_role(admin, database) as (_, conninfo), running(conninfo, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        admin.execute("alter table pgflow.step_tasks enable row level security")
        admin.execute("create policy all_of_it on pgflow.step_tasks using (true) with check (true)")
        admin.execute("select pgmq.send('echo', '{}')")
        found = told_trouble(starter)
        assert (found.kind, found.scope) == ("unstarted", "some")
        assert "row level security of pgflow.step_tasks may hide theirs" in found.reason
        assert "pgmq.delete" not in found.reason
        eventually(lambda: admin.execute("select 1 from pgmq.q_echo where read_ct > 1").fetchone() or True)
        assert starter.ready()


# Lost among others


def test_lost_messages_of_one_flow_are_seen_beside_the_backlog_of_another(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgflow_starter")
    job, other = echo_job(), echo_job("other")
    with pgflow.PgflowClient(database) as client:
        client.enqueue_many(job, range(20), run_ids=[UUID(int=2**127 + n) for n in range(20)])
        for _ in range(3):
            client.enqueue_many(other, range(1000))
        admin.execute("select pgmq.purge_queue('echo')")
        with running(database, jobs=[job]) as starter:
            starter.await_ready(WAIT)
            found = becomes_red(starter, "queued tasks have no message in pgmq.q_echo")
            admin.execute(found.reason.partition("sent anew by: ")[2].encode())
            becomes_green(starter)
    assert (told(caplog, "trouble (messages_lost, scope all)"), told(caplog, "trouble is over")) == (1, 1)


@pytest.mark.parametrize("first", [2**127, 2**64, 0])
def test_so_many_looks_see_all_queued_tasks_wherever_their_runs_ids_lie(
    database: str, admin: Admin, first: int
) -> None:
    job, wide = echo_job(), pgflow.Flow("wide")
    wide.map(slug="each")(lambda given, ctx: given)
    with running(database, flows=[wide], jobs=[job]) as starter:
        starter.await_ready(WAIT)
    with pgflow.PgflowClient(database) as client:
        client.start_flow(wide, [*range(3 * SAMPLE)], run_id=UUID(int=first + 50))
        client.enqueue_many(job, range(100), run_ids=[UUID(int=first + n) for n in range(100) if n != 50] + [uuid4()])
    lost = UUID(int=first + 10)
    admin.execute(
        "select pgmq.delete('echo', message_id) from pgflow.step_tasks where run_id = %s and flow_slug = 'echo'",
        (lost,),
    )
    with opened(database) as connected:
        looks = Looks(connected)
        # A run that is wider than a look takes one for itself.
        found = [looks.evidence(["echo"], {}, {})["echo"] for _ in range(5)]
    assert {task for one in found for task in one.lost_tasks} == {(lost, "echo", 0)}
    assert not any(one.whole for one in found)


def test_a_purge_after_a_single_loss_is_red_when_nothing_moves_any_more(database: str, admin: Admin) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter, psycopg.connect(database) as holder:
        starter.await_ready(WAIT)
        holder.execute("select pgflow.start_flow('echo', '1')")
        holder.execute("select pgmq.purge_queue('echo')")
        holder.commit()
        starter.client.enqueue(job, 2).wait(WAIT)
        eventually(lambda: (t := trouble(starter)) is not None and t.kind == "messages_lost", WAIT)
        starter.client.enqueue(job, 3).wait(WAIT)
        for _ in range(5):
            holder.execute("select pgflow.start_flow('echo', '1')")
        holder.execute("select pgmq.purge_queue('echo')")
        holder.commit()
        becomes_red(starter, "6 of 6")


def test_a_task_that_runs_is_work_that_moves(database: str, admin: Admin) -> None:
    begun, end = threading.Event(), threading.Event()

    @pgflow.job("echo")
    def echo(message: Any, ctx: pgflow.TaskContext) -> None:
        begun.set()
        assert end.wait(WAIT)

    with running(database, jobs=[echo]) as starter, psycopg.connect(database) as holder:
        starter.await_ready(WAIT)
        run = starter.client.enqueue(echo, 1)
        assert begun.wait(WAIT)
        holder.execute("select pgflow.start_flow('echo', '1')")
        holder.execute("delete from pgmq.q_echo where read_ct = 0")
        holder.commit()
        found = told_trouble(starter)
        assert (found.kind, found.scope, starter.ready()) == ("messages_lost", "some", True)
        end.set()
        run.wait(WAIT)
        becomes_red(starter, "1 of 1")


# Locked


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rows", ["pgmq.q_echo", "pgflow.step_tasks"])
def test_rows_that_somebody_has_locked_all_of_are_red(database: str, admin: Admin, rows: str, strategy: str) -> None:
    job = echo_job()
    with running(database, jobs=[job], signal_strategy=strategy) as starter, psycopg.connect(database) as holder:
        starter.await_ready(WAIT)
        with holder.transaction():
            for number in range(5):
                holder.execute("select pgflow.start_flow('echo', %s::jsonb)", (str(number),))
            # Before they can be seen, so that nobody comes between.
            holder.execute("update pgmq.q_echo set vt = clock_timestamp() + interval '2 s'")
        with holder.transaction():
            holder.execute(f"select 1 from {rows} for update")
            becomes_red(starter, "locked")
        becomes_green(starter)


# Without effect


def test_outcomes_that_are_recorded_without_effect_are_told(database: str, admin: Admin) -> None:
    job = echo_job()
    with running(database, jobs=[job], recovery_interval=0.2) as starter:
        starter.await_ready(WAIT)
        admin.execute("create function nothing() returns trigger language plpgsql as 'begin return null; end'")
        admin.execute(
            "create trigger nothing before update on pgflow.step_tasks for each row"
            " when (new.status = 'completed') execute function nothing()"
        )
        run = starter.client.enqueue(job, 1)
        becomes_red(starter, "has no effect: its task stays started")
        admin.execute("drop trigger nothing on pgflow.step_tasks")
        becomes_green(starter)
        assert run.wait(WAIT).result == 1


# Heartbeats and outages


def test_heartbeats_that_are_refused_are_told_and_turn_nothing(database: str, admin: Admin) -> None:
    with (
        worker_role(admin, database) as (role, conninfo),
        running(conninfo, jobs=[echo_job()], heartbeat_interval=0.2, stale_threshold=5) as starter,
    ):
        starter.await_ready(WAIT)
        admin.execute(f"revoke update on pgflow.workers from {role}")
        found = told_trouble(starter)
        assert (found.kind, found.scope, found.error_type, starter.ready()) == ("unheard", "some", "42501", True)
        admin.execute(f"grant update on pgflow.workers to {role}")
        becomes_green(starter)


def test_an_outage_in_the_midst_of_trouble_changes_no_status(own_server: EmbeddedPostgres) -> None:
    job = echo_job()
    with running(own_server.conninfo(), jobs=[job, echo_job("fine")]) as starter:
        starter.await_ready(WAIT)
        with psycopg.connect(own_server.conninfo(), autocommit=True) as admin:
            admin.execute("alter table pgmq.q_echo rename to q_gone")
        await_state(starter, job, lambda state: state.status == "retrying", WAIT)
        own_server.stop()
        eventually(lambda: starter.status().outage is not None, WAIT)
        assert [str(module.status) for module in starter.status().modules] == ["retrying", "succeeded"]
        own_server.start()
        eventually(lambda: starter.status().outage is None, WAIT)
        assert [str(module.status) for module in starter.status().modules] == ["retrying", "succeeded"]
        with psycopg.connect(own_server.conninfo(), autocommit=True) as admin:
            admin.execute("alter table pgmq.q_gone rename to q_echo")
        eventually(starter.ready, WAIT)


# What is told of it


def test_what_a_trigger_says_is_not_told_for_it_may_quote_a_message(database: str, admin: Admin) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        admin.execute(
            "create function refuse() returns trigger language plpgsql as"
            " $$ begin raise exception 'no card %', new.message using errcode = 'PT400'; end $$"
        )
        admin.execute("create trigger refuse before insert on pgmq.a_echo for each row execute function refuse()")
        starter.client.enqueue(job, "4111")
        found = told_trouble(starter)
        assert (found.kind, found.error_type) == ("outcomes_refused", "PT400")
        assert "card" not in found.reason
        admin.execute("drop trigger refuse on pgmq.a_echo")
        becomes_green(starter)


def test_a_constraint_that_is_in_the_way_is_named(database: str, admin: Admin) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        starter.client.enqueue(job, 1).wait(WAIT)
        admin.execute("create unique index only_one on pgmq.a_echo ((message ->> 'flow_slug'))")
        starter.client.enqueue(job, 2)
        found = told_trouble(starter)
        assert "UniqueViolation [23505], constraint only_one of a_echo" in found.reason
        admin.execute("drop index pgmq.only_one")
        becomes_green(starter)
