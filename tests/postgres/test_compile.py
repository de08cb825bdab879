"""Compiling: create once, verify ever after, whoever else compiles at the same time."""

from __future__ import annotations

import logging
import threading
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from tests.support.database import NoScope, opened
from tests.support.starters import running, state


def _handler(given: Any, ctx: Any) -> Any:
    return given


def _flow(slug: str = "f", **steps: dict[str, Any]) -> pgflow.FlowDefinition:
    wanted = steps or {"a": {}, "b": {"depends_on": ("a",)}, "c": {"depends_on": ("a", "b"), "timeout": 9}}
    return pgflow.FlowDefinition(slug, tuple(pgflow.StepDefinition(s, _handler, **o) for s, o in wanted.items()))


def test_a_flow_is_created_once_and_verified_from_then_on(database: str) -> None:
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        assert store.compile(_flow(), NoScope()).created
        again = store.compile(_flow(), NoScope())
        assert not again.created
        assert again.differences == ()
        assert again.definition == _flow()


def test_dependencies_named_in_another_order_are_the_same_shape(database: str) -> None:
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        store.compile(_flow(a={}, b={}, c={"depends_on": ("a", "b")}), NoScope())
        assert not store.compile(_flow(b={}, a={}, c={"depends_on": ("b", "a")}), NoScope()).created


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"a": {}}, "step 'b' is in the database only"),
        ({"a": {}, "b": {"depends_on": ("a",)}, "x": {}}, "step 'x' is in the code only"),
        ({"a": {}, "b": {}}, r"step 'b' depends on \['a'\] in the database and on \[\] in the code"),
        (
            {"a": {}, "b": {"depends_on": ("a",), "kind": pgflow.StepKind.MAP}},
            "step 'b' is a single step in the database and a map step in the code",
        ),
    ],
)
def test_another_shape_is_refused_and_the_steps_that_differ_are_named(
    database: str, steps: dict[str, Any], words: str
) -> None:
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        store.compile(_flow(a={}, b={"depends_on": ("a",)}), NoScope())
        with pytest.raises(pgflow.ShapeMismatchError, match=words):
            store.compile(_flow(**steps), NoScope())


def test_options_that_differ_are_told_once_and_the_database_wins(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    def job(max_attempts: int) -> pgflow.Job:
        return pgflow.job("opts", max_attempts=max_attempts, base_delay=0)(_fail)

    attempts: list[int] = []

    def _fail(message: Any, ctx: pgflow.TaskContext) -> None:
        attempts.append(ctx.attempt)
        raise RuntimeError

    with opened(database) as db:
        PostgresFlowStore(db, SystemClock()).compile(job(2).__pgflow_definition__(), NoScope())
    changed = job(5)
    with caplog.at_level(logging.WARNING, "pgflow_starter"), running(database, jobs=[changed]) as starter:
        starter.await_ready(10)
        starter.client.enqueue(changed).wait(20)
        starter.retry_now(changed)
        starter.await_ready(10)
    assert attempts == [1, 2]
    told = [r.message for r in caplog.records if "max_attempts" in r.message]
    assert len(told) == 1
    assert "max_attempts is 2 in the database and 5 in the code" in told[0]
    assert "`pgflow-starter flow sync MODULE`" in told[0]


def test_a_shape_that_differs_is_a_permanent_failure(database: str) -> None:
    with opened(database) as db:
        PostgresFlowStore(db, SystemClock()).compile(_flow("shaped", a={}), NoScope())
    flow = pgflow.Flow("shaped")
    flow.step(slug="other")(_handler)
    with running(database, flows=[flow]) as starter:
        starter.await_ready(10)
        failed = state(starter, flow)
        assert failed.status == "failed_permanent"
        assert failed.last_error is not None
        assert failed.last_error.error_type == "ShapeMismatchError"
        assert "'other'" in failed.last_error.reason
        assert "Give the changed flow a new slug, or, when its runs are done," in failed.last_error.reason
        assert "`pgflow-starter flow delete shaped`" in failed.last_error.reason


def test_a_queue_that_is_gone_is_made_again(database: str) -> None:
    with opened(database) as db, psycopg.connect(database, autocommit=True) as admin:
        store = PostgresFlowStore(db, SystemClock())
        store.compile(_flow(), NoScope())
        admin.execute("select pgmq.drop_queue('f')")
        store.compile(_flow(), NoScope())
        assert admin.execute("select count(*) from pgmq.list_queues() where queue_name = 'f'").fetchone() == (1,)


def test_of_two_shapes_compiled_at_once_one_wins_whole(database: str) -> None:
    shapes = [_flow("race", a={}, b={"depends_on": ("a",)}), _flow("race", a={}, c={"depends_on": ("a",)})]
    outcomes: list[object] = []
    together = threading.Barrier(8)

    def compile_one(definition: pgflow.FlowDefinition) -> None:
        together.wait(10)
        try:
            outcomes.append(PostgresFlowStore(db, SystemClock()).compile(definition, NoScope()).created)
        except pgflow.ShapeMismatchError as error:
            outcomes.append(error)

    with opened(database) as db:
        with db.connection():
            pass
        threads = [threading.Thread(target=compile_one, args=(shapes[i % 2],)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(outcomes) == 8
        assert sum(o is True for o in outcomes) == 1
        assert sum(isinstance(o, pgflow.ShapeMismatchError) for o in outcomes) == 4
