"""Flows run as declared: roots, dependents, maps, in one input shape."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.starters import STRATEGIES, echo_job, opened, running


def _shop() -> tuple[pgflow.Flow, list[tuple[str, Any, Any]]]:
    """A flow with every kind of step, and what its handlers were given."""
    flow = pgflow.Flow("shop", max_attempts=2, base_delay=0)
    seen: list[tuple[str, Any, Any]] = []

    @flow.step()
    def load(order: Any, ctx: pgflow.TaskContext) -> Any:
        seen.append(("load", order, ctx.flow_input))
        return [{"item": i} for i in order["items"]]

    @flow.map(array="load")
    def price(line: Any, ctx: pgflow.TaskContext) -> Any:
        seen.append((f"price{ctx.task_index}", line, ctx.flow_input))
        return line["item"] * 10

    @flow.map(array="price")
    def tax(price: Any, ctx: pgflow.TaskContext) -> Any:
        return price * 2

    @flow.step(depends_on=["tax", "load"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        seen.append(("total", deps, ctx.flow_input))
        return sum(deps["tax"])

    @flow.step(depends_on=["load"])
    def count(deps: Any, ctx: pgflow.TaskContext) -> Any:
        return len(deps["load"])

    return flow, seen


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_graph_with_maps_runs_and_each_handler_sees_its_input(database: str, strategy: str) -> None:
    flow, seen = _shop()
    given = {"items": [1, 2, 3]}
    with running(database, flows=[flow], signal_strategy=strategy) as starter:
        run = starter.client.start_flow(flow, given).wait(20)
    assert run.status == "completed"
    assert run.output == {"total": 120, "count": 3}
    assert run.result == run.output
    lines = [{"item": 1}, {"item": 2}, {"item": 3}]
    assert {name: (value, whole) for name, value, whole in seen} == {
        "load": (given, given),
        "price0": (lines[0], given),
        "price1": (lines[1], given),
        "price2": (lines[2], given),
        "total": ({"tax": [20, 40, 60], "load": lines}, given),
    }


def test_a_map_over_an_empty_array_completes(database: str) -> None:
    flow, _ = _shop()
    with running(database, flows=[flow]) as starter:
        assert starter.client.start_flow(flow, {"items": []}).wait(20).output == {"total": 0, "count": 0}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_root_map_goes_over_the_flows_input(database: str, strategy: str) -> None:
    flow = pgflow.Flow("squares")
    whole: list[Any] = []

    @flow.map()
    def square(n: int, ctx: pgflow.TaskContext) -> int:
        whole.append(ctx.flow_input)
        return n * n

    with running(database, flows=[flow], signal_strategy=strategy, batch_size=7) as starter:
        run = starter.client.start_flow(flow, list(range(50))).wait(20)
        assert run.result == [n * n for n in range(50)]
        assert run.output == {"square": run.result}
        assert whole == [list(range(50))] * 50
        with pytest.raises(pgflow.PgflowError, match="not an array"):
            starter.client.start_flow(flow, {"no": "array"})


def test_a_step_feeding_a_map_without_an_array_fails_the_run(database: str) -> None:
    flow = pgflow.Flow("not_an_array")
    flow.step(slug="first")(lambda given, ctx: 7)
    flow.map(array="first", slug="each")(lambda item, ctx: item)
    with running(database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow).wait(20)
        assert run.status == "failed"
        assert run.error is not None
        assert "TYPE_VIOLATION" in run.error


def test_the_context_tells_what_runs(database: str) -> None:
    contexts: list[pgflow.TaskContext] = []

    @pgflow.job("job_x", step_slug="step_y", timeout=33)
    def job_x(message: Any, ctx: pgflow.TaskContext) -> None:
        contexts.append(ctx)
        ctx.logger.info("at work")

    with running(database, jobs=[job_x]) as starter:
        run = starter.client.enqueue(job_x, {"a": 1}).wait(20)
        assert run.output == {"step_y": None}
        assert run.result is None
    (ctx,) = contexts
    assert (ctx.run_id, ctx.flow_slug, ctx.step_slug, ctx.task_index, ctx.attempt) == (
        run.id,
        "job_x",
        "step_y",
        0,
        1,
    )
    assert ctx.flow_input == {"a": 1}
    assert ctx.msg_id > 0
    assert ctx.deadline > 0
    assert not ctx.cancelled.is_set()


@pytest.mark.parametrize(("limit", "setting"), [(3, 10), (None, 3)])
def test_no_more_tasks_run_at_a_time_than_max_concurrency(database: str, limit: int | None, setting: int) -> None:
    lock = threading.Lock()
    now, most = 0, 0
    full = threading.Event()

    @pgflow.job("narrow", max_concurrency=limit)
    def narrow(message: Any, ctx: pgflow.TaskContext) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                full.set()
        full.wait(5)
        with lock:
            now -= 1

    with running(database, jobs=[narrow], max_concurrency=setting, batch_size=100) as starter:
        runs = [starter.client.enqueue(narrow, i) for i in range(30)]
        assert all(run.wait(20).status == "completed" for run in runs)
    assert most == 3


def test_a_start_delay_is_honoured(database: str) -> None:
    flow = pgflow.Flow("later")
    flow.step(slug="first")(lambda given, ctx: 1)
    flow.step(slug="second", depends_on=["first"], start_delay=1)(lambda given, ctx: 2)
    with running(database, flows=[flow], signal_strategy="notify") as starter:
        run = starter.client.start_flow(flow).wait(20)
        assert run.started_at is not None
        assert run.ended_at is not None
        assert 1.0 <= (run.ended_at - run.started_at).total_seconds() < 3.0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_hundreds_of_messages_are_all_run_once(database: str, strategy: str) -> None:
    seen: list[int] = []

    @pgflow.job("many")
    def many(message: int, ctx: pgflow.TaskContext) -> int:
        seen.append(message)
        return message

    with running(database, jobs=[many], signal_strategy=strategy) as starter:
        starter.await_ready(10)
        runs = [starter.client.enqueue(many, i) for i in range(300)]
        assert [run.wait(30).result for run in runs] == list(range(300))
    assert sorted(seen) == list(range(300))


def test_a_worker_stopped_from_outside_is_succeeded_by_one_that_knows_its_tasks(
    database: str, release: threading.Event
) -> None:
    entered = threading.Event()
    attempts: list[int] = []

    @pgflow.job("resumed", max_concurrency=2)
    def resumed(message: Any, ctx: pgflow.TaskContext) -> Any:
        attempts.append(ctx.attempt)
        if message == "held":
            entered.set()
            release.wait()
        return message

    with opened(database, jobs=[resumed], heartbeat_interval=0.1, stale_threshold=5) as (starter, runtime):
        held = starter.client.enqueue(resumed, "held")
        assert entered.wait(10)
        (cell,) = runtime.parts.workers.cells()
        assert cell.ref is not None
        cell.ref.stop()
        assert starter.client.enqueue(resumed, "other").wait(20).result == "other"
        release.set()
        assert held.wait(20).result == "held"
    assert attempts == [1, 1]


def test_a_schema_installed_anew_under_a_running_worker_is_worked_in(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter, psycopg.connect(database, autocommit=True) as admin:
        starter.await_ready(10)
        admin.execute("delete from pgflow.workers")
        assert starter.client.enqueue(job, 1).wait(20).result == 1
