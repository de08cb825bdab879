"""Runs that are started once, however often they are asked for: by key."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.client.starts import Starts
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.flows import compile_flow
from tests.support.pauses import Between
from tests.support.starters import echo_job

JOBS = (echo_job(), echo_job("other"))


@pytest.fixture(params=["fast lane", "core"])
def client(
    request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pgflow.PgflowClient]:
    if request.param == "core":
        monkeypatch.setattr(FastLane, "core", lambda self, conn: None)
    with psycopg.connect(database, autocommit=True) as admin:
        for job in JOBS:
            compile_flow(admin, job.__pgflow_definition__())
    with pgflow.PgflowClient(database) as made:
        yield made


def count(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        row: Any = connection.execute("select count(*) from pgflow.runs").fetchone()
    return int(row[0])


def test_the_same_key_is_the_same_run_of_its_flow(client: pgflow.PgflowClient, database: str) -> None:
    run = client.enqueue("echo", 1, key="order-7")
    assert run.id == pgflow.run_id_of("echo", "order-7")
    assert client.start_flow(JOBS[0], 1, key="order-7") == run
    assert client.enqueue("other", 1, key="order-7").id != run.id
    assert count(database) == 2


def test_another_input_is_told_as_jsonb_has_it(client: pgflow.PgflowClient, database: str) -> None:
    run = client.enqueue("echo", {"a": 1, "b": [None]}, key="a")
    assert not run.input_differs
    for given, differs in (({"b": [None], "a": 1.0}, False), ({"a": 1}, True), (None, True)):
        for again in (client.enqueue("echo", given, key="a"), client.enqueue("echo", given, run_id=run.id)):
            assert (again.id, again.input, again.input_differs) == (run.id, {"a": 1, "b": [None]}, differs)
    assert not client.run(run.id).input_differs
    assert count(database) == 1


def test_a_key_that_is_there_twice_is_one_run_of_the_first_input(client: pgflow.PgflowClient, database: str) -> None:
    client.enqueue("echo", "kept", key="k")
    keys, given = ["b", "a", "b", "k", "c", "b"], [1, 2, 1, 3, 4, "else"]
    for _ in range(2):
        runs = client.enqueue_many("echo", given, keys=iter(keys))
        assert [run.id for run in runs] == [pgflow.run_id_of("echo", key) for key in keys]
        assert [run.input for run in runs] == [1, 2, 1, "kept", 4, 1]
        assert [run.input_differs for run in runs] == [False, False, False, True, False, True]
    assert count(database) == 4


def test_within_the_callers_transaction_it_is_the_same_run_too(client: pgflow.PgflowClient, database: str) -> None:
    with psycopg.connect(database) as connection:
        first = client.enqueue("echo", 1, key="a", connection=connection)
        again = client.enqueue("echo", 2, key="a", connection=connection)
        assert (again.id, again.input_differs) == (first.id, True)
        runs = client.start_flows("echo", [1, 2, 3], keys=["a", "b", "b"], connection=connection)
        assert [run.input_differs for run in runs] == [False, False, True]
    assert count(database) == 2


def test_who_asks_at_the_same_moment_gets_the_same_runs(client: pgflow.PgflowClient, database: str) -> None:
    keys = [f"k{n % 7}" for n in range(40)]

    def call(number: int) -> list[pgflow.Run]:
        order = keys if number % 2 else keys[::-1]
        return client.enqueue_many("echo", order, keys=order)

    with ThreadPoolExecutor(4) as threads:
        answers = [*threads.map(call, range(8))]
    assert {run.id for answer in answers for run in answer} == {pgflow.run_id_of("echo", key) for key in keys}
    assert not any(run.input_differs for answer in answers for run in answer)
    assert count(database) == 7


def test_what_is_no_key_or_one_beside_an_id_is_refused_before_anything_is_asked() -> None:
    chosen = pgflow.run_id_of("echo", "a")
    with pgflow.PgflowClient("host=127.0.0.1 port=1") as client:
        for call in (client.start_flow, client.enqueue):
            with pytest.raises(ValueError, match="give run_id= or key=, not both"):
                call("echo", 1, key="a", run_id=chosen)
            with pytest.raises(ValueError, match="a key must not be empty"):
                call("echo", 1, key="")
            with pytest.raises(TypeError, match="a key must be a string, got int 7"):
                call("echo", 1, key=7)  # type: ignore[call-overload]
        for many in (client.start_flows, client.enqueue_many):
            with pytest.raises(ValueError, match="give run_ids= or keys=, not both"):
                many("echo", [1], keys=["a"], run_ids=[chosen])
            with pytest.raises(ValueError, match="keys must be as many as inputs, got 1 for 2 inputs"):
                many("echo", [1, 2], keys=["a"])
            with pytest.raises(TypeError, match="keys must be strings, one for each input, got one string 'ab'"):
                many("echo", [1, 2], keys="ab")


@pytest.mark.parametrize("delay", [None, 60.0])
def test_a_run_that_is_deleted_while_its_key_is_used_again_is_started_anew(
    client: pgflow.PgflowClient, database: str, delay: float | None
) -> None:
    run = client.enqueue("echo", 1, key="a")
    client.cancel(run.id)
    again: list[pgflow.Run] = []
    with Between(Starts, "again = [run_id", "found = _found(") as between:
        starting = between.beside(lambda: again.append(client.enqueue("echo", 2, key="a", delay=delay)))
        between.reached()
        client.delete(run.id)
        between.go_on()
        starting.join(30)
    assert [(r.id, r.status, r.input, r.input_differs, r.found) for r in again] == [
        (run.id, "started", 2, False, False)
    ]
    assert count(database) == 1
