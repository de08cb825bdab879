"""The end of a pool: no caller left waiting, and no connection left behind."""

from __future__ import annotations

import psycopg_pool
import pytest

from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Session
from tests.postgres.pool_rig import WAIT, World, asking
from tests.starter.forks import script
from tests.support.waiting import eventually


@pytest.mark.parametrize("reserved", [0, 1])
def test_closing_ends_every_wait_and_what_is_in_use_when_it_is_put_back(world: World, reserved: int) -> None:
    world.pool = world.another(reserved)
    taken, served = world.take(3 - reserved), list[Session | None]()
    threads = [asking(world.pool, served) for _ in range(2)]
    eventually(lambda: world.pool.counts().waiting == 2)
    world.pool.put(taken[0])
    eventually(lambda: len(served) == 1)
    world.pool.close()
    for thread in threads:
        thread.join()
    assert served == [taken[0], None]
    assert world.pool.get(WAIT) is None
    for conn in taken:
        world.pool.put(conn)
    assert world.open == 0


def test_a_caller_that_comes_just_as_the_pool_closes_waits_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def look(_: object) -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise psycopg_pool.PoolClosed("it was closed since the first look")
        world.pool.close()

    monkeypatch.setattr("psycopg_pool.base.BasePool._check_open_getconn", look)
    assert world.pool.get(60) is None
    assert looks == 2


def test_a_connection_that_is_handed_over_as_the_pool_closes_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pool.put(world.get())
    getconn = psycopg_pool.ConnectionPool.getconn

    def closing(pool: psycopg_pool.ConnectionPool[Session], timeout: float) -> Session:
        conn = getconn(pool, timeout)
        world.pool.close()
        return conn

    monkeypatch.setattr(psycopg_pool.ConnectionPool, "getconn", closing)
    assert world.pool.get(60) is None
    assert world.open == 0
    assert world.budget.occupied == 0


def test_a_connection_that_its_caller_came_too_late_for_is_closed_with_the_pool(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pool.put(world.get())
    getconn = psycopg_pool.ConnectionPool.getconn

    def too_late(pool: psycopg_pool.ConnectionPool[Session], timeout: float) -> Session:
        getconn(pool, timeout)
        raise psycopg_pool.PoolTimeout

    monkeypatch.setattr(psycopg_pool.ConnectionPool, "getconn", too_late)
    with pytest.raises(DatabaseError, match="no connection came free"):
        world.pool.get(0)
    world.pool.close()
    assert world.open == 0
    assert world.budget.occupied == 0


def test_a_pool_that_is_dropped_in_a_child_touches_nothing_of_the_parents(empty_database: str) -> None:
    script(
        """
import weakref
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.connections.pool import Pool
from psycopg_pool import ConnectionPool

def child():
    global pool, conn
    touched = []
    ConnectionPool.__del__ = touched.append
    dropped = weakref.ref(pool)
    del pool, conn
    gc.collect()
    assert (dropped(), touched) == (None, []), (dropped(), touched)

pool = Pool(
    lambda: Session.connect(sys.argv[1], autocommit=True),
    budget=BackendBudget(1), clock=SystemClock(), failed=lambda error: None,
)
conn = pool.get(20)
pool.put(conn)
in_child(child)
assert pool.get(20) is conn
assert conn.execute("select 1").fetchone() == (1,)
pool.put(conn)
pool.close(within=5)
""",
        empty_database,
    )
