"""What is done for many flows and workers in one statement: verifying, registering, looking into their queues."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support.database import NoScope, opened
from tests.support.starters import echo_job

LONGEST = "a" * 47
MOST = 64


@pytest.fixture
def db(database: str) -> Iterator[Database]:
    with opened(database) as made:
        yield made


@pytest.fixture
def flows(db: Database) -> PostgresFlowStore:
    return PostgresFlowStore(db, SystemClock())


@pytest.fixture
def tasks(db: Database) -> PostgresTaskStore:
    return PostgresTaskStore(db)


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn


def _definition(slug: str, *steps: str) -> pgflow.FlowDefinition:
    wanted = steps or (slug,)
    return pgflow.FlowDefinition(slug, tuple(pgflow.StepDefinition(step, lambda given, ctx: given) for step in wanted))


def _wired(flows: PostgresFlowStore, slugs: list[str]) -> list[tuple[UUID, str]]:
    """Workers of flows that are there with their queues."""
    for slug in slugs:
        flows.compile(_definition(slug), NoScope())
    workers = [(uuid4(), slug) for slug in slugs]
    flows.register_workers(workers, NoScope())
    return workers


# Verifying


def test_of_many_flows_those_in_order_are_verified_whatever_the_others_are(
    flows: PostgresFlowStore, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    good = [f"good_{n}" for n in range(10)]
    for slug in [*good, "reshaped", "queueless", LONGEST]:
        flows.compile(_definition(slug), NoScope())
    admin.execute("select pgmq.drop_queue('queueless')")
    asked = [_definition(slug) for slug in [*good[:5], "queueless", "missing", LONGEST, *good[5:]]]
    verified = flows.verify([*asked, _definition("reshaped", "other")], NoScope(), notify=True)
    assert sorted(verified) == sorted([*good, LONGEST])
    assert flows.compile(_definition("queueless"), NoScope()).created is False
    assert flows.compile(_definition("missing"), NoScope()).created is True
    with pytest.raises(pgflow.ShapeMismatchError, match="step 'other' is in the code only"):
        flows.compile(_definition("reshaped", "other"), NoScope())
    again = flows.verify(asked, NoScope(), notify=True)
    assert sorted(again) == sorted(d.slug for d in asked)


def test_options_that_differ_are_told_and_the_stored_ones_count(flows: PostgresFlowStore) -> None:
    flows.compile(echo_job("echo", timeout=9).__pgflow_definition__(), NoScope())
    verified = flows.verify([echo_job("echo", timeout=7).__pgflow_definition__()], NoScope(), notify=True)
    assert verified["echo"].definition.timeout == 9
    assert verified["echo"].differences == ("timeout is 9 in the database and 7 in the code",)


def test_verifying_none_finds_none(flows: PostgresFlowStore) -> None:
    assert flows.verify([], NoScope(), notify=True) == {}


def test_without_pgflow_verifying_says_so(empty_database: str) -> None:
    with opened(empty_database) as db, pytest.raises(pgflow.NotInstalledError, match="are not installed in database"):
        PostgresFlowStore(db, SystemClock()).verify([_definition("f")], NoScope(), notify=True)


# Registering


def test_workers_are_registered_together_and_again_is_no_harm(
    flows: PostgresFlowStore, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    workers = [(uuid4(), f"queue_{n}") for n in range(MOST)]
    flows.register_workers(workers, NoScope())
    flows.register_workers(workers[:5], NoScope())
    rows = admin.execute("select worker_id, queue_name from pgflow.workers").fetchall()
    assert sorted(rows) == sorted(workers)


# Looking


def test_a_look_into_many_queues_tells_each_worker_of_its_own(
    flows: PostgresFlowStore, tasks: PostgresTaskStore, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    slugs = [*(f"queue_{n}" for n in range(MOST - 1)), LONGEST]
    workers = _wired(flows, slugs)
    assert tasks.look(workers) == [None] * MOST
    admin.execute("select pgflow.start_flow('queue_3', '1')")
    admin.execute("select pgflow.start_flow(%s, '1')", (LONGEST,))
    for delay in (90, 60):
        admin.execute("select pgmq.send('queue_5', '{}', %s)", (delay,))
    seen = tasks.look(workers)
    assert [n for n, seconds in enumerate(seen) if seconds is not None] == [3, 5, MOST - 1]
    assert seen[3] is not None
    assert seen[3] <= 0
    assert seen[5] is not None
    assert 50 < seen[5] <= 60
    last = seen[MOST - 1]
    assert last is not None
    assert last <= 0
    # In whatever order they are named, and more than once.
    assert [s is None for s in tasks.look([*workers[::-1], workers[0]])] == [*(s is None for s in seen[::-1]), True]


def test_a_claim_that_will_fail_is_told_as_something_to_claim(
    flows: PostgresFlowStore, tasks: PostgresTaskStore, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    workers = _wired(flows, [f"queue_{n}" for n in range(4)])
    admin.execute("delete from pgflow.workers where queue_name = 'queue_0'")
    admin.execute("delete from pgflow.steps where flow_slug = 'queue_1'")
    admin.execute("delete from pgflow.flows where flow_slug = 'queue_1'")
    admin.execute("delete from pgmq.meta where queue_name = 'queue_2'")
    assert tasks.look(workers) == [0, 0, 0, None]
    for worker, slug in workers[:3]:
        with pytest.raises(pgflow.UnknownFlowError):
            tasks.claim(_definition(slug), worker, 1, NoScope())


@pytest.mark.parametrize("gone", ["select pgmq.drop_queue('queue_1')", "drop schema pgflow cascade"])
def test_a_look_fails_for_all_where_a_queue_or_the_schema_is_gone(
    flows: PostgresFlowStore,
    tasks: PostgresTaskStore,
    admin: psycopg.Connection[tuple[object, ...]],
    gone: str,
) -> None:
    workers = _wired(flows, ["queue_0", "queue_1"])
    admin.execute(gone)
    with pytest.raises(pgflow.DatabaseError):
        tasks.look(workers)
    assert "drop schema" in gone or tasks.look(workers[:1]) == [None]


def test_a_queue_that_is_locked_holds_up_no_look_for_long(
    flows: PostgresFlowStore, tasks: PostgresTaskStore, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    workers = _wired(flows, ["queue_0", "queue_1"])
    with admin.transaction():
        admin.execute("lock table pgmq.q_queue_1 in access exclusive mode")
        with pytest.raises(pgflow.DatabaseError) as caught:
            tasks.look(workers)
        assert caught.value.sqlstate == "55P03"
    assert tasks.look(workers) == [None, None]


def test_what_another_has_claimed_is_visible_when_its_time_is_up(
    flows: PostgresFlowStore, tasks: PostgresTaskStore, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    (worker,) = _wired(flows, ["echo"])
    admin.execute("select pgflow.start_flow('echo', '1')")
    assert len(tasks.claim(_definition("echo"), worker[0], 5, NoScope()).tasks) == 1
    (seconds,) = tasks.look([worker])
    assert seconds is not None
    assert 50 < seconds <= 62


def test_a_slug_of_the_longest_length_works_from_end_to_end(database: str) -> None:
    for strategy in ("polling", "notify"):
        jobs = [echo_job(LONGEST), echo_job("b" * 47)]
        with pgflow.start(database, jobs=jobs, signal_strategy=strategy) as starter:
            starter.await_ready(20)
            runs = [starter.client.enqueue(job, n) for n, job in enumerate(jobs)]
            assert [run.wait(20).result for run in runs] == [0, 1]
