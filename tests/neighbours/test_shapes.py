"""What another runtime compiled: the order of steps and their conditions are compared, and its lock is respected."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.setup.admin import queue_lock
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.stored_flow import NEIGHBOUR_HEARD
from tests.neighbours.other_runtime import Admin, OtherWorker
from tests.support.database import NoScope, opened
from tests.support.starters import running, state
from tests.support.waiting import eventually

# As cores from 0.14 on have them.
CONDITIONS = """
alter table pgflow.steps add column required_input_pattern jsonb, add column forbidden_input_pattern jsonb,
    add column when_unmet text not null default 'skip', add column when_exhausted text not null default 'fail'
"""
LOCK = "(1, hashtext('shop'))"


def _flow(*steps: str) -> pgflow.FlowDefinition:
    return pgflow.FlowDefinition("shop", tuple(pgflow.StepDefinition(s, lambda given, ctx: given) for s in steps))


def _compile(database: str, *steps: str) -> tuple[bool, tuple[str, ...]]:
    """As one module and as one of many; both see the same."""
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        verified = store.verify([_flow(*steps)], NoScope(), notify=False)
        compiled = store.compile(_flow(*steps), NoScope())
        assert verified in ({}, {"shop": compiled})
        return bool(verified), compiled.differences


def test_another_order_of_the_same_steps_is_told_and_works(database: str) -> None:
    _compile(database, "a", "b", "c")
    assert _compile(database, "a", "b", "c") == (True, ())
    verified, (told,) = _compile(database, "c", "a", "b")
    assert verified
    assert told == "its steps are in the order a, b, c in the database and c, a, b in the code"


def test_while_a_worker_of_another_runtime_has_the_queue_another_order_is_refused(database: str, admin: Admin) -> None:
    _compile(database, "a", "b")
    OtherWorker(admin, "shop", function="shop-worker")
    assert _compile(database, "a", "b") == (True, ())
    with pytest.raises(pgflow.ShapeMismatchError, match=r"another runtime has its queue \(shop-worker\)"):
        _compile(database, "b", "a")


@pytest.mark.parametrize(
    "change",
    [
        f"last_heartbeat_at = now() - interval '{NEIGHBOUR_HEARD + 1} s'",
        "deprecated_at = now()",
        "stopped_at = now() + interval '1 s'",
        "queue_name = 'another'",
        "function_name = 'pgflow_starter:shop'",
        "function_name = 'shop'",  # as our own earlier versions wrote it
    ],
)
def test_a_worker_that_is_gone_or_ours_minds_no_order(database: str, admin: Admin, change: str) -> None:
    admin.execute("alter table pgflow.workers add column stopped_at timestamptz")
    _compile(database, "a", "b")
    OtherWorker(admin, "shop")
    admin.execute(f"update pgflow.workers set {change}")
    assert _compile(database, "b", "a")[0]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (
            "required_input_pattern = '{\"vip\": true}'",
            "if_ of step 'b' is {\"vip\": true} in the database and not given in the code",
        ),
        ("forbidden_input_pattern = '{}'", "if_not of step 'b' is {} in the database and not given in the code"),
        ("when_unmet = 'fail'", "when_unmet of step 'b' is 'fail' in the database and 'skip' in the code"),
        (
            "when_exhausted = 'skip-cascade'",
            "when_exhausted of step 'b' is 'skip-cascade' in the database and 'fail' in the code",
        ),
    ],
)
def test_conditions_that_the_code_does_not_have_are_another_shape(
    database: str, admin: Admin, condition: str, told: str
) -> None:
    admin.execute(CONDITIONS)
    assert _compile(database, "a", "b") == (False, ())
    assert _compile(database, "a", "b") == (True, ())
    admin.execute(f"update pgflow.steps set {condition} where step_slug = 'b'")
    with pytest.raises(pgflow.ShapeMismatchError) as raised:
        _compile(database, "a", "b")
    assert told in str(raised.value)


def test_a_flow_with_conditions_is_a_permanent_failure_that_says_so(database: str, admin: Admin) -> None:
    admin.execute(CONDITIONS)
    admin.execute("select count(*) from pgflow.create_flow('shop')")
    admin.execute("select count(*) from pgflow.add_step('shop', 'gift')")
    admin.execute("update pgflow.steps set required_input_pattern = '{\"vip\": true}'")
    flow = pgflow.Flow("shop")
    flow.step(slug="gift")(lambda given, ctx: given)
    with running(database, flows=[flow]) as starter:
        starter.await_ready(10)
        failed = state(starter, flow)
    assert failed.status == "failed_permanent"
    assert failed.last_error is not None
    assert "'gift'" in failed.last_error.reason


def test_a_compile_waits_for_who_compiles_under_the_cores_own_lock(database: str, admin: Admin) -> None:
    admin.execute(f"select pg_advisory_lock{LOCK}")
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(_compile(database, "a")))
    thread.start()
    try:
        eventually(lambda: _waiting(admin))
        admin.execute(f"select pg_advisory_unlock{LOCK}")
    finally:
        thread.join(20)
    assert done == [(False, ())]


def _waiting(admin: Admin) -> bool:
    row = admin.execute("select count(*) from pg_locks where locktype = 'advisory' and not granted").fetchone()
    return row == (1,)


def test_a_compile_does_not_wait_for_it_for_ever(database: str, admin: Admin) -> None:
    admin.execute(f"select pg_advisory_lock{LOCK}")
    with pytest.raises(pgflow.DatabaseError) as raised:
        _compile(database, "a")
    assert raised.value.sqlstate == "55P03"


def test_who_compiles_under_it_waits_until_ours_is_whole(database: str, admin: Admin) -> None:
    with queue_lock(database, "shop") as release:  # in which creating the queue stands
        thread = threading.Thread(target=lambda: _compile(database, "a", "b"))
        thread.start()
        try:
            eventually(lambda: _waiting_for_the_queue(admin))
            assert admin.execute(f"select pg_try_advisory_lock{LOCK}").fetchone() == (False,)
            release()
            with psycopg.connect(database) as other:
                other.execute(f"select pg_advisory_xact_lock{LOCK}")
                assert other.execute("select count(*) from pgflow.steps").fetchone() == (2,)
        finally:
            thread.join(20)


def _waiting_for_the_queue(admin: Admin) -> bool:
    row = admin.execute(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    ).fetchone()
    return row == (1,)
