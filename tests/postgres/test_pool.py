"""Connections kept for the next: given in turn, and none that has ended."""

from __future__ import annotations

import select

import psycopg
import pytest
from psycopg_pool import ConnectionPool, PoolTimeout

from pgflow_starter.postgres.connections.connection import Session
from tests.postgres.pool_rig import SOON, WAIT, World, asking
from tests.support.waiting import eventually


@pytest.mark.parametrize("reserved", [0, 1])
def test_who_waits_is_served_in_turn(world: World, reserved: int) -> None:
    world.pool = world.another(reserved)
    taken, served, threads = world.take(3 - reserved), list[Session | None](), []
    for i in range(len(taken)):
        threads.append(asking(world.pool, served))
        eventually(lambda i=i: world.pool.counts().waiting == i + 1)  # type: ignore[misc]
    for i, conn in enumerate(taken):
        world.pool.put(conn)
        eventually(lambda i=i: len(served) == i + 1)  # type: ignore[misc]
    assert served == taken
    for thread in threads:
        thread.join()


def test_one_that_broke_or_is_in_a_transaction_is_not_given_to_the_next(world: World) -> None:
    broken, busy = world.take(2)
    with pytest.raises(psycopg.OperationalError):
        broken.execute("select pg_terminate_backend(pg_backend_pid())")
    busy.execute("begin")
    world.pool.put(broken)
    world.pool.put(busy)
    assert world.pool.empty
    assert world.open == 0
    assert world.get() not in (broken, busy)


def test_after_a_failure_it_does_not_connect_until_it_is_told_to(world: World) -> None:
    world.refusing = True
    for _ in range(2):
        world.get_none()
    assert len(world.failures) == 1
    world.refusing = False
    world.get_none()
    world.pool.grow_again()
    assert world.get() is world.made[0]


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_a_failure_of_any_kind_is_told_and_takes_no_place_and_psycopg_pool_says_nothing_of_it(
    world: World, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def fail() -> None:
        raise kind("no such luck")

    world.connecting = fail
    world.get_none()
    assert [(type(failure), str(failure)) for failure in world.failures] == [(kind, "no such luck")]
    assert world.budget.occupied == 0
    world.connecting = lambda: None
    world.pool.grow_again()
    world.get()
    assert caplog.records == []
    with ConnectionPool("host=127.0.0.1 port=1", min_size=0, max_size=1, open=True, name="theirs") as theirs:
        with pytest.raises(PoolTimeout):
            theirs.getconn(SOON)
        eventually(lambda: [record for record in caplog.records if "theirs" in record.getMessage()])


def test_who_waits_while_connecting_fails_is_served_by_one_that_is_put_back(world: World) -> None:
    conn, served = world.get(), list[Session | None]()
    world.refusing = True
    thread = asking(world.pool, served)
    eventually(lambda: world.failures and world.pool.counts().waiting)
    world.pool.put(conn)
    thread.join()
    assert served == [conn]


def test_who_comes_to_wait_just_as_an_attempt_is_given_up_is_served_when_it_may_connect_again(world: World) -> None:
    served: list[Session | None] = []
    world.refusing = True
    threads = [asking(world.pool, served)]
    eventually(lambda: world.failures)
    for _ in range(50):
        threads.append(asking(world.pool, served))
        world.refusing = False
        world.pool.grow_again()
        threads.pop(0).join(WAIT)
        conn = served.pop()
        assert conn is not None
        world.refusing = True
        conn.close()
        world.pool.put(conn)
    world.pool.close()
    threads.pop().join(WAIT)


def test_the_connection_that_was_used_last_is_given_away_first(world: World) -> None:
    """So that few are in use, whose backends have their plans and caches already."""
    first, second, third = world.take(3)
    for conn in (second, first, third):
        world.pool.put(conn)
    assert [world.get(), world.get()] == [third, first]


def test_an_idle_connection_that_the_server_has_ended_is_not_given_away(world: World, empty_database: str) -> None:
    first, second = world.take(2)
    world.pool.put(second)
    world.pool.put(first)
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(%s)", (first.info.backend_pid,))
        eventually(
            lambda: (
                not admin.execute("select from pg_stat_activity where pid = %s", (first.info.backend_pid,)).fetchone()
                and select.select([first.fileno()], [], [], 0)[0]  # its last words have come
            )
        )
    assert world.get() is second
    assert world.dead == [first]
    assert (first.ended_by, first.closed) == ("57P01", True)


def test_who_has_given_up_waits_no_more(world: World) -> None:
    taken, served = world.take(3), list[Session | None]()
    world.get_none()
    assert world.pool.counts().waiting == 0
    thread = asking(world.pool, served)
    eventually(lambda: world.pool.counts().waiting == 1)
    world.pool.put(taken[0])
    thread.join()
    assert (served, world.pool.counts().waiting) == ([taken[0]], 0)


def test_that_one_has_ended_is_told_before_its_place_is_free_and_it_is_whatever_comes_of_that(world: World) -> None:
    conn, lent = world.get(), list[int]()

    def tell(_: Session) -> None:
        lent.append(world.pool.counts().lent)
        raise ValueError("no")

    world.pool.put(conn)
    conn.close()
    world.found_dead = tell
    with pytest.raises(ValueError, match="no"):
        world.get()
    assert (lent, world.pool.counts().lent) == ([1], 0)
