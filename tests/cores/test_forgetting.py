"""Finished runs are deleted with all that is theirs, and nothing else, on every core."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pgflow_starter as pgflow
from tests.cores.by_steps import QUEUES, shop
from tests.cores.stand_in import Admin
from tests.cores.test_deleting import NAMESAKES
from tests.support.old_runs import left, make_runs
from tests.support.starters import echo_job, running

WAIT = 20.0
NOW = timedelta(0)


def failing() -> pgflow.Job:
    @pgflow.job("failing", max_attempts=1)
    def failing(message: Any, ctx: pgflow.TaskContext) -> None:
        raise ValueError(message)

    return failing


def test_old_runs_go_with_steps_tasks_and_messages_and_young_ones_stay(database: str, admin: Admin) -> None:
    flow, job = shop().flow, failing()
    tables = ("pgmq.q_shop", "pgmq.a_shop", "pgmq.q_failing", "pgmq.a_failing")
    with running(database, flows=[flow], jobs=[job]) as starter:
        runs = [starter.client.start_flow(flow, [1, 2, n]).wait(WAIT) for n in range(3)]
        assert starter.client.enqueue(job, 1).wait(WAIT).status == "failed"
        starter.client.delete(runs[0].id)
        assert left(admin, *tables) == {
            "pgflow.runs": 3, "pgflow.step_states": 7, "pgflow.step_tasks": 11,
            "pgmq.q_shop": 0, "pgmq.a_shop": 10, "pgmq.q_failing": 0, "pgmq.a_failing": 1,
        }  # fmt: skip
        assert starter.client.prune(timedelta(hours=1)) == 0
        assert starter.client.prune(pgflow.Retention(completed=NOW, failed=None)) == 2
        assert starter.client.prune(NOW) == 1
        assert set(left(admin, *tables).values()) == {0}
        assert starter.client.start_flow(flow, [4]).wait(WAIT).result == 8


def test_with_a_queue_for_each_step_the_messages_go_out_of_all_of_them(queues_database: str, by_steps: Admin) -> None:
    flow = shop().flow
    archives = [f"pgmq.a_{queue}" for queue in QUEUES]
    with running(queues_database, flows=[flow]) as starter:
        first, *_ = [starter.client.start_flow(flow, [1, 2]).wait(WAIT) for _ in range(3)]
        starter.client.delete(first.id)
        assert [left(by_steps, *archives)[archive] for archive in archives] == [2, 4, 2]
        assert starter.client.prune(NOW) == 2
    assert set(left(by_steps, *archives).values()) == {0}


def test_of_a_queue_that_another_flow_has_too_its_messages_alone_go(database: str, admin: Admin) -> None:
    admin.execute(NAMESAKES)
    mine = make_runs(admin, 2, slug="shipOut", step="pickUp", days=5)
    make_runs(admin, 3, slug="shipout", step="pickUp", days=1)
    with pgflow.PgflowClient(database) as client:
        client.delete(mine[0])
        assert client.prune(timedelta(days=2)) == 1
        rows = admin.execute("select message ->> 'flow_slug', count(*)::int from pgmq.a_shipout group by 1").fetchall()
        assert dict(rows) == {"shipOut": 1, "shipout": 4}  # type: ignore[arg-type] # one each of unfinished runs
        assert left(admin, "pgmq.q_shipout")["pgmq.q_shipout"] == 2
        assert client.prune(NOW) == 3
    assert left(admin)["pgflow.runs"] == 4


def test_it_does_in_numbers_what_it_does_of_one(database: str, admin: Admin) -> None:
    with pgflow.PgflowClient(database) as client:
        client.enqueue(echo_job(), 1)
        make_runs(admin, 501)
        assert client.prune(timedelta(days=30)) == 501
    assert left(admin, "pgmq.a_echo", "pgmq.q_echo") == {
        **dict.fromkeys(left(admin), 1),
        "pgmq.a_echo": 0,
        "pgmq.q_echo": 1,
    }
