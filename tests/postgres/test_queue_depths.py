"""How much is in queues: what is counted, and what counting it reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores import queue_depths
from pgflow_starter.postgres.stores.fast_lane.lane import PLANS
from pgflow_starter.postgres.stores.queue_depths import AT_ONCE, DEPTH, HAS_ONE, PostgresQueueDepths, united
from tests.postgres.test_views import views
from tests.support.database import opened
from tests.support.statements import recorded
from tests.support.waiting import eventually

MANY = 100_000
PAGES = 5000
"""Of the index and, before the first vacuum, of the table: that many, read from memory, take some milliseconds."""


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def db(database: str) -> Iterator[Database]:
    with opened(database) as made:
        yield made


def fill(admin: psycopg.Connection[Any], queue: str, *, waiting: int, hidden: int = 0, age: int = 0) -> None:
    """Make the queue, with so many messages of which the oldest has waited for `age` seconds."""
    admin.execute("select pgmq.create(%s)", (queue,))
    given = {"queue": sql.Identifier(f"q_{queue.lower()}")}
    insert = sql.SQL(
        "insert into pgmq.{queue} (vt, message)"
        " select now() + make_interval(secs => %s * (random() + 0.1)), '{{\"a\": 1}}' from generate_series(1, %s)"
    ).format(**given)
    admin.execute(insert, (-1, waiting))
    admin.execute(insert, (1000, hidden))
    oldest = "update pgmq.{queue} set vt = now() - make_interval(secs => %s) where msg_id = 1"
    admin.execute(sql.SQL(oldest).format(**given), (age,))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_what_waits_what_is_hidden_and_how_long_the_oldest_has_waited(
    db: Database, admin: psycopg.Connection[Any]
) -> None:
    fill(admin, "orders", waiting=3, hidden=2, age=100)
    fill(admin, "Mails", waiting=0, hidden=1)
    admin.execute("update pgmq.q_mails set vt = now() + interval '1 h'")
    fill(admin, "empty", waiting=0)
    found = {depth.queue: depth for depth in PostgresQueueDepths(db).depths(["orders", "Mails", "empty"])}
    assert {name: (depth.waiting, depth.hidden) for name, depth in found.items()} == {
        "orders": (3, 2),
        "Mails": (0, 1),
        "empty": (0, 0),
    }
    oldest = found["orders"].oldest_age
    assert oldest is not None
    assert 100 <= oldest < 200
    assert (found["Mails"].oldest_age, found["empty"].oldest_age) == (None, None)


def test_messages_of_infinite_times_are_counted_and_the_oldest_is_one_of_the_others(
    db: Database, admin: psycopg.Connection[Any]
) -> None:
    fill(admin, "orders", waiting=3, age=100)
    fill(admin, "ever", waiting=1)
    for queue, message, time in (("orders", 2, "infinity"), ("orders", 3, "-infinity"), ("ever", 1, "-infinity")):
        admin.execute(f"update pgmq.q_{queue} set vt = %s::timestamptz where msg_id = %s".encode(), (time, message))
    orders, ever = PostgresQueueDepths(db).depths(["orders", "ever"])
    assert (orders.waiting, orders.hidden, int(orders.oldest_age or 0) // 100) == (2, 1, 1)
    assert (ever.waiting, ever.hidden, ever.oldest_age) == (1, 0, None)


def test_the_page_is_told_the_same_as_the_metrics(database: str, db: Database, admin: psycopg.Connection[Any]) -> None:
    for flow in ("Orders", "mails"):
        admin.execute("select pgflow.create_flow(%s)", (flow,))
    fill(admin, "Orders", waiting=3, hidden=2)
    with views(database) as page:
        told = [(queue.flow_slug, queue.depth._replace(oldest_age=None)) for queue in page.queues(patience=10)]
    measured = PostgresQueueDepths(db).depths(["Orders", "mails"])
    assert sorted(told) == sorted((depth.queue, depth._replace(oldest_age=None)) for depth in measured)
    assert [(depth.waiting, depth.hidden) for depth in measured] == [(3, 2), (0, 0)]


def test_a_queue_that_is_gone_keeps_nobody_from_counting_the_others(
    db: Database, admin: psycopg.Connection[Any]
) -> None:
    fill(admin, "there", waiting=1)
    store = PostgresQueueDepths(db)
    assert [depth.queue for depth in store.depths(["gone", "there"])] == ["there"]
    assert store.depths(["gone"]) == store.depths([]) == []


def test_a_queue_that_is_not_ours_to_read_keeps_nobody_from_counting_the_others(
    database: str, admin: psycopg.Connection[Any]
) -> None:
    for queue in ("ours", "theirs"):
        fill(admin, queue, waiting=1)
    admin.execute("drop role if exists counts")
    admin.execute("create role counts login")
    admin.execute("grant usage on schema pgmq to counts")
    admin.execute("grant select on pgmq.q_ours to counts")
    try:
        with opened(make_conninfo(database, user="counts")) as db:
            assert [depth.queue for depth in PostgresQueueDepths(db).depths(["ours", "theirs"])] == ["ours"]
    finally:
        admin.execute("drop owned by counts")
        admin.execute("drop role counts")


def test_a_locked_queue_keeps_nobody_from_counting_the_others_and_many_fail_the_reading(
    database: str, db: Database, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_depths, "MOST_LOCKED", 1)
    queues = [f"q{n}" for n in range(4)]
    for queue in queues:
        fill(admin, queue, waiting=1)
    store = PostgresQueueDepths(db)
    with psycopg.connect(database) as somebody:
        somebody.execute("lock table pgmq.q_q1 in access exclusive mode")
        assert [depth.queue for depth in store.depths(queues)] == ["q0", "q2", "q3"]
        somebody.execute("lock table pgmq.q_q2 in access exclusive mode")
        with pytest.raises(DatabaseError) as failed:
            store.depths(queues)
        assert failed.value.locked
    assert [depth.queue for depth in store.depths(queues)] == queues


def test_more_queues_than_a_statement_takes_are_all_counted(
    db: Database, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_depths, "AT_ONCE", 2)
    monkeypatch.setattr(queue_depths, "COUNTED_AT_ONCE", 2)
    monkeypatch.setattr(queue_depths, "FULL", 2)
    queues = {f"q{n}": n % 4 for n in range(9)}
    for queue, waiting in queues.items():
        fill(admin, queue, waiting=waiting)
    admin.execute("analyze")
    assert {depth.queue: depth.waiting for depth in PostgresQueueDepths(db).depths(list(queues))} == queues


def test_a_statement_locks_the_tables_of_a_few_queues_only(db: Database, admin: psycopg.Connection[Any]) -> None:
    queues = [f"q{n}" for n in range(2 * AT_ONCE)]
    for queue in queues:
        fill(admin, queue, waiting=1)
    with recorded() as statements:
        PostgresQueueDepths(db).depths(queues)
    asked = [statement.text.count("union all") + 1 for statement in statements if "from pgmq." in statement.text]
    assert len(asked) >= 4
    assert max(asked) <= AT_ONCE


def test_above_what_is_counted_the_servers_own_count_tells(
    db: Database, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_depths, "MOST_COUNTED", 3)
    fill(admin, "orders", waiting=5, hidden=1)
    fill(admin, "later", waiting=1, hidden=5)
    admin.execute("analyze")

    def counted() -> list[tuple[int, int]]:
        return [(depth.waiting, depth.hidden) for depth in PostgresQueueDepths(db).depths(["orders", "later"])]

    eventually(lambda: counted() == [(5, 1), (1, 5)])


@pytest.mark.parametrize("part", [HAS_ONE, DEPTH], ids=["whether it has one", "how many"])
@pytest.mark.parametrize("vacuumed", [False, True], ids=["as it was filled", "vacuumed"])
def test_a_hundred_thousand_messages_are_counted_by_the_index_of_their_visibility(
    admin: psycopg.Connection[Any], vacuumed: bool, part: str
) -> None:
    fill(admin, "full", waiting=MANY * 9 // 10, hidden=MANY // 10)
    if vacuumed:
        admin.execute("vacuum analyze pgmq.q_full")
    with admin.transaction():
        admin.execute(PLANS)
        explain = sql.SQL("explain (analyze, buffers, timing off, format json) ") + united(part, ["full"])
        row: Any = admin.execute(explain).fetchone()
    plan = row[0][0]["Plan"]
    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"]]
    index = "q_full_vt_idx" if part == DEPTH else "q_full_pkey"
    assert {node.get("Index Name", index) for node in scans} == {index}
    assert all("Seq" not in node["Node Type"] for node in scans)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < (PAGES // 10 if vacuumed else PAGES)
