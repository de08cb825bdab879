"""Many runs started at once: all of them or none, each once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.starters import echo_job, running


def runs(conninfo: str) -> int:
    with psycopg.connect(conninfo) as conn:
        row = conn.execute("select count(*) from pgflow.runs").fetchone()
    assert row is not None
    return int(row[0])


def test_each_input_becomes_a_run_in_that_order(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        started = starter.client.enqueue_many(job, ({"n": n} for n in range(300)))
        assert [run.input["n"] for run in started] == [*range(300)]
        assert [run.wait(20).result["n"] for run in started] == [*range(300)]
        assert starter.client.start_flows(job, []) == []
    assert runs(database) == 300


def test_runs_that_are_there_are_returned_and_the_others_started(database: str) -> None:
    job = echo_job()
    chosen = [uuid.uuid4() for _ in range(4)]
    with running(database, jobs=[job]) as starter:
        starter.client.enqueue(job, "first", run_id=chosen[2])
        for _ in range(2):
            started = starter.client.enqueue_many(job, "abcd", run_ids=map(str, chosen))
            assert [(run.id, run.input) for run in started] == [*zip(chosen, ["a", "b", "first", "d"], strict=True)]
    assert runs(database) == 4


def test_an_input_that_is_no_json_or_a_taken_id_starts_none(database: str) -> None:
    job = echo_job()
    other = pgflow.job("other")(lambda message, ctx: message)
    taken = uuid.uuid4()
    with running(database, jobs=[job, other]) as starter:
        starter.await_ready(10)
        starter.client.enqueue(other, run_id=taken).wait(10)
        with pytest.raises(ValueError, match=r"inputs\[1\]\['a'\] is a set"):
            starter.client.enqueue_many(job, [1, {"a": {2}}])
        with pytest.raises(pgflow.PgflowError, match="is a run of flow 'other'"):
            starter.client.enqueue_many(job, [1, 2], run_ids=[uuid.uuid4(), taken])
        for wrong in ([taken], [taken, taken]):
            with pytest.raises(ValueError, match="run_ids must be as many as inputs and all different"):
                starter.client.enqueue_many(job, [1, 2], run_ids=wrong)
        with pytest.raises(pgflow.UnknownFlowError):
            starter.client.start_flows("no_such_flow", [1, 2])
    assert runs(database) == 1


def test_in_the_callers_transaction_they_come_and_go_with_it(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter, psycopg.connect(database) as connection:
        starter.client.enqueue_many(job, [1, 2], connection=connection)
        connection.rollback()
        started = starter.client.enqueue_many(job, [3, 4], connection=connection)
        connection.commit()
        assert [run.wait(20).result for run in started] == [3, 4]
    assert runs(database) == 2


def test_a_flow_that_no_starter_has_come_to_yet_is_compiled(database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        assert len(client.enqueue_many(echo_job(), [1, 2])) == 2


def test_calls_that_start_the_same_runs_at_the_same_time_all_succeed(database: str) -> None:
    job = echo_job()
    ids = [uuid.uuid4() for _ in range(60)]
    with running(database, jobs=[job]) as starter, ThreadPoolExecutor(6) as threads:
        starter.await_ready(10)

        def start(number: int) -> int:
            mine = ids[number : number + 40] if number % 2 else ids[number : number + 40][::-1]
            return len(starter.client.enqueue_many(job, range(40), run_ids=mine))

        assert [*threads.map(start, [n % 20 for n in range(60)])] == [40] * 60
    assert runs(database) == 59


def test_neither_datestyle_nor_a_callers_own_adapters_hide_what_was_started(database: str) -> None:
    job = echo_job()
    with psycopg.connect(database, autocommit=True) as admin:
        name = psycopg.sql.Identifier(admin.info.dbname)
        admin.execute(psycopg.sql.SQL("alter database {} set datestyle = 'SQL, DMY'").format(name))
    with running(database, jobs=[job]) as starter, psycopg.connect(database, cursor_factory=psycopg.RawCursor) as own:
        assert starter.client.enqueue(job, 1).wait(20).ended_at is not None
        own.adapters.register_loader("uuid", psycopg.types.string.TextLoader)
        own.adapters.register_loader("timestamptz", psycopg.types.string.TextLoader)
        run = starter.client.enqueue(job, 2, connection=own)
        own.commit()
        assert starter.client.run(run.id).wait(20).started_at == run.started_at
