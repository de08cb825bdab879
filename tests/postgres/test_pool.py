"""Connections kept for the next: in turn, never more than allowed, fewer where the server is crowded."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator

import psycopg
import psycopg_pool
import pytest
from psycopg_pool import ConnectionPool, PoolTimeout

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections import pool as pool_module
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.connection import Backend, Session, server_limits
from pgflow_starter.postgres.connections.pool import CROWDED_FOR, Pool
from tests.support.waiting import eventually

WAIT = 20.0
SOON = 0.05


class Ahead(SystemClock):
    """The system's, so many seconds ahead."""

    seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.seconds


class World:
    """A pool of three, what it made, and how connecting fails."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.clock = Ahead()
        self.made: list[Session] = []
        self.refusing = False
        self.connecting: Callable[[], object] = lambda: None
        self.failures: list[Exception] = []
        self.budget = BackendBudget(3, freed=self._freed)
        self.dead: list[Session] = []
        self.pools: list[Pool] = []
        self.pool = self.another()

    def another(self, reserved_for_urgent: int = 0) -> Pool:
        """A pool that shares the budget."""
        self.budget.reserved_for_urgent = reserved_for_urgent
        pool = Pool(
            self._connect,
            budget=self.budget,
            clock=self.clock,
            failed=self.failures.append,
            found_dead=self.dead.append,
        )
        self.pools.append(pool)
        return pool

    def _freed(self) -> None:
        self.pool.look_again()

    def _connect(self) -> Session:
        self.connecting()
        if self.refusing:
            raise psycopg.OperationalError("refused")
        self.made.append(Session.connect(self.conninfo, autocommit=True))
        self.made[-1].set_up(server_limits(15))
        return self.made[-1]

    def get(self, *, urgent: bool = False) -> Session:
        conn = self.pool.get(WAIT, urgent=urgent)
        assert conn is not None
        return conn

    def get_none(self) -> DatabaseError:
        """What is said where none comes free."""
        with pytest.raises(DatabaseError, match="no connection came free") as caught:
            self.pool.get(SOON)
        return caught.value

    def take(self, number: int) -> list[Session]:
        return [self.get() for _ in range(number)]

    @property
    def open(self) -> int:
        return sum(not conn.closed for conn in self.made)


@pytest.fixture
def world(empty_database: str) -> Iterator[World]:
    world = World(empty_database)
    yield world
    for pool in world.pools:
        pool.close()
    for conn in world.made:
        conn.close()


def asking(pool: Pool, served: list[Session | None], *, urgent: bool = False) -> threading.Thread:
    """Somebody who asks for a connection, on a thread."""
    thread = threading.Thread(target=lambda: served.append(pool.get(WAIT, urgent=urgent)))
    thread.start()
    return thread


def test_it_connects_when_none_is_free_and_never_more_than_its_size(world: World) -> None:
    taken = world.take(3)
    assert len(set(taken)) == 3
    said = world.get_none()
    assert (said.error_type, said.connection_lost) == ("PoolTimeout", False)
    world.pool.put(taken[1])
    assert world.get() is taken[1]


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


def test_nothing_takes_the_place_of_one_that_broke_until_somebody_needs_it(world: World) -> None:
    for conn in world.take(3):
        conn.close()
        world.pool.put(conn)
    world.get()  # made after the pool's one thread was done with the others
    assert len(world.made) == 4


def test_after_a_failure_it_does_not_connect_until_it_is_told_to(world: World) -> None:
    world.refusing = True
    for _ in range(2):
        world.get_none()
    assert len(world.failures) == 1
    world.refusing = False
    world.get_none()
    world.pool.grow_again()
    assert world.get() is world.made[0]


def test_a_failure_of_any_kind_is_told_and_psycopg_pool_says_nothing_of_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no such luck")

    world.connecting = fail
    world.get_none()
    assert [str(failure) for failure in world.failures] == ["no such luck"]
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


def test_making_room_closes_an_idle_connection_at_once(world: World) -> None:
    for conn in world.take(3):
        world.pool.put(conn)
    assert world.pool.make_room()
    assert world.open == 2
    world.take(2)
    world.get_none()


def test_making_room_closes_the_next_that_is_put_back_and_one_is_kept(world: World) -> None:
    taken = world.take(3)
    for _ in range(5):
        assert world.pool.make_room()
    world.pool.put(taken[0])
    assert world.open == 2
    assert world.pool.make_room()
    world.pool.put(taken[1])
    assert world.open == 1
    assert not world.pool.make_room()
    world.pool.put(taken[2])
    assert world.open == 1


def test_it_stays_small_for_a_while(world: World) -> None:
    taken = world.take(2)
    world.pool.make_do()
    world.get_none()
    world.clock.seconds = CROWDED_FOR
    assert world.get() not in taken


def test_what_is_not_needed_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_IDLE", SOON)
    world.pool = world.another()
    for conn in world.take(2):
        world.pool.put(conn)
    eventually(lambda: world.open == 0)
    world.get()


def test_what_is_old_is_closed_when_it_is_put_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_LIFETIME", 0.0)
    world.pool = world.another()
    old = world.get()
    world.pool.put(old)
    assert old.closed
    assert world.get() is not old


# Backends


def test_pools_that_follow_each_other_have_no_more_connections_together_than_there_is_room(world: World) -> None:
    old, in_use = world.pool, world.take(2)
    old.close()
    world.pool = world.another()
    taken, served = world.get(), list[Session | None]()
    world.get_none()
    thread = asking(world.pool, served)
    eventually(lambda: world.pool.counts().waiting)
    old.put(in_use[0])
    thread.join()
    assert served == [world.made[-1]]
    assert taken not in served
    old.put(in_use[1])


def test_a_backend_that_was_left_behind_takes_the_place_of_a_connection_until_it_has_ended(world: World) -> None:
    conn = world.get()
    assert conn.backend is not None
    world.budget.leave_behind(conn.backend)
    world.get()
    world.get_none()
    world.budget.ended([conn.backend])
    world.get()


def test_where_one_broke_the_idle_ones_are_left_behind_and_those_in_use_are_not(world: World) -> None:
    idle, in_use = world.take(2)
    world.pool.put(idle)
    world.pool.close(broken=True)
    assert world.budget.left_behind == (idle.backend,)
    world.pool.put(in_use)
    assert (world.budget.left_behind, world.open) == ((idle.backend,), 0)


def test_one_connection_there_may_be_however_many_were_left_behind(world: World) -> None:
    conn = world.get()
    assert conn.backend is not None
    for number in range(5):
        world.budget.leave_behind(Backend(number, conn.backend.began))
    world.pool.put(conn)
    assert world.get() is conn


def test_one_is_kept_for_who_is_urgent(world: World) -> None:
    world.pool = world.another(reserved_for_urgent=1)
    taken = world.take(2)
    world.get_none()
    urgent = world.get(urgent=True)
    assert urgent not in taken
    world.pool.put(urgent)
    world.get_none()
    world.pool.put(taken[0])
    assert world.get() in (taken[0], urgent)


@pytest.mark.parametrize("size", [1, 3])
def test_who_is_urgent_waits_behind_one_at_most(world: World, size: int) -> None:
    may_connect = threading.Event()

    def wait() -> None:
        assert may_connect.wait(WAIT)

    world.connecting = wait
    world.budget.size = size
    world.pool = world.another(reserved_for_urgent=1)
    others, urgent = list[Session | None](), list[Session | None]()
    threads = []
    for i in range(5):
        threads.append(asking(world.pool, others))
        eventually(lambda i=i: world.pool.counts().waiting == i + 1)  # type: ignore[misc]
    threads.append(asking(world.pool, urgent, urgent=True))
    eventually(lambda: world.pool.counts().waiting == 6)
    may_connect.set()
    if size == 1:
        eventually(lambda: others and others == world.made)
        world.pool.put(world.made[0])
    eventually(lambda: urgent and urgent == world.made[size > 1 :][:1])
    world.pool.close()
    for thread in threads:
        thread.join()


def test_an_idle_connection_that_the_server_has_ended_is_not_given_away(world: World, empty_database: str) -> None:
    first, second = world.take(2)
    world.pool.put(first)
    world.pool.put(second)
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
