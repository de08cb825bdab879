"""Connections kept for the next: in turn, never more than allowed, fewer where the server is crowded."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import psycopg
import pytest

from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Backend, Session, server_limits
from pgflow_starter.postgres.connections.pool import CROWDED_FOR, MAX_IDLE, MAX_LIFETIME, Pool
from pgflow_starter.postgres.connections.room import Room
from pgflow_starter.testing import ManualClock
from tests.support.waiting import eventually


class World:
    """A pool of three, what it made, and how connecting fails."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.clock = ManualClock()
        self.made: list[Session] = []
        self.refusing = False
        self.failures: list[psycopg.Error] = []
        self.room = Room(3)
        self.dead: list[Session] = []
        self.pool = self.another()

    def another(self, kept: int = 0) -> Pool:
        """A pool in the same room."""
        return Pool(
            self._connect,
            room=self.room,
            clock=self.clock,
            failed=self.failures.append,
            found_dead=self.dead.append,
            kept=kept,
        )

    def _connect(self) -> Session:
        if self.refusing:
            raise psycopg.OperationalError("refused")
        self.made.append(Session.connect(self.conninfo, autocommit=True))
        self.made[-1].set_up(server_limits(15))
        return self.made[-1]

    def get(self, *, urgent: bool = False) -> Session:
        conn = self.pool.get(0, urgent=urgent)
        assert conn is not None
        return conn

    def take(self, number: int) -> list[Session]:
        return [self.get() for _ in range(number)]

    @property
    def open(self) -> int:
        return sum(not conn.closed for conn in self.made)


@pytest.fixture
def world(empty_database: str) -> Iterator[World]:
    world = World(empty_database)
    yield world
    world.pool.close()
    for conn in world.made:
        conn.close()


def in_line(pool: Pool) -> int:
    return len(pool._line)


def test_it_connects_when_none_is_free_and_never_more_than_its_size(world: World) -> None:
    taken = world.take(3)
    assert len(set(taken)) == 3
    with pytest.raises(DatabaseError, match="no connection came free") as caught:
        world.get()
    assert (caught.value.error_type, caught.value.connection_lost) == ("PoolTimeout", False)
    world.pool.put(taken[1])
    assert world.get() is taken[1]


def test_who_waits_is_served_in_turn(world: World) -> None:
    taken, served = world.take(3), list[tuple[int, Session | None]]()

    def wait(i: int) -> None:
        served.append((i, world.pool.get(20)))

    threads = [threading.Thread(target=wait, args=(i,)) for i in range(3)]
    for i, thread in enumerate(threads):
        thread.start()
        eventually(lambda i=i: in_line(world.pool) == i + 1)  # type: ignore[misc]
    for i, conn in enumerate(taken):
        world.pool.put(conn)
        eventually(lambda i=i: len(served) == i + 1)  # type: ignore[misc]
    assert served == list(enumerate(taken))
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
        with pytest.raises(DatabaseError):
            world.get()
    assert len(world.failures) == 1
    world.refusing = False
    with pytest.raises(DatabaseError):
        world.get()
    world.pool.grow_again()
    assert world.get() is world.made[0]


def test_who_waits_while_connecting_fails_is_served_by_one_that_is_put_back(world: World) -> None:
    conn = world.get()
    world.refusing = True
    served: list[Session | None] = []
    thread = threading.Thread(target=lambda: served.append(world.pool.get(20)))
    thread.start()
    eventually(lambda: world.failures and in_line(world.pool))
    world.pool.put(conn)
    thread.join()
    assert served == [conn]


def test_closing_ends_every_wait_and_what_is_in_use_when_it_is_put_back(world: World) -> None:
    taken, served = world.take(3), list[Session | None]()
    threads = [threading.Thread(target=lambda: served.append(world.pool.get(20))) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: in_line(world.pool) == 2)
    world.pool.put(taken[0])
    eventually(lambda: len(served) == 1)
    world.pool.close()
    for thread in threads:
        thread.join()
    assert served == [taken[0], None]
    assert world.pool.get(20) is None
    for conn in taken:
        world.pool.put(conn)
    assert world.open == 0


def test_making_room_closes_an_idle_connection_at_once(world: World) -> None:
    for conn in world.take(3):
        world.pool.put(conn)
    assert world.pool.make_room()
    assert world.open == 2
    world.take(2)
    with pytest.raises(DatabaseError):
        world.get()


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
    with pytest.raises(DatabaseError):
        world.get()
    world.clock.advance(CROWDED_FOR)
    assert world.get() not in taken


def test_what_is_not_needed_or_old_is_closed(world: World) -> None:
    first, second = world.take(2)
    world.pool.put(first)
    world.clock.advance(MAX_IDLE + 1)
    world.pool.put(second)
    assert first.closed
    assert world.get() is second
    world.clock.advance(MAX_LIFETIME)
    world.pool.put(second)
    assert second.closed


# Backends


def test_pools_that_follow_each_other_have_no_more_connections_together_than_there_is_room(world: World) -> None:
    old, in_use = world.pool, world.take(2)
    old.close()
    world.pool = world.another()
    world.room.freed = world.pool.look_again
    taken = world.get()
    with pytest.raises(DatabaseError):
        world.get()
    served: list[Session | None] = []
    thread = threading.Thread(target=lambda: served.append(world.pool.get(20)))
    thread.start()
    eventually(lambda: in_line(world.pool))
    old.put(in_use[0])
    thread.join()
    assert served == [world.made[-1]]
    assert taken not in served
    old.put(in_use[1])


def test_a_backend_that_was_left_behind_takes_the_place_of_a_connection_until_it_has_ended(world: World) -> None:
    conn = world.get()
    assert conn.backend is not None
    world.room.leave_behind(conn.backend)
    world.get()
    with pytest.raises(DatabaseError):
        world.get()
    world.room.ended([conn.backend])
    world.get()


def test_one_connection_there_may_be_however_many_were_left_behind(world: World) -> None:
    conn = world.get()
    assert conn.backend is not None
    for number in range(5):
        world.room.leave_behind(Backend(number, conn.backend.began))
    world.pool.put(conn)
    assert world.get() is conn


def test_one_is_kept_for_who_is_urgent_and_who_is_comes_first(world: World) -> None:
    world.pool = world.another(kept=1)
    taken = world.take(2)
    with pytest.raises(DatabaseError):
        world.get()
    urgent = world.get(urgent=True)
    assert urgent not in taken
    world.pool.put(urgent)
    with pytest.raises(DatabaseError):
        world.get()
    world.pool.put(taken[0])
    assert world.get() in (taken[0], urgent)


def test_an_idle_connection_that_the_server_has_ended_is_not_given_away(world: World, empty_database: str) -> None:
    first, second = world.take(2)
    world.pool.put(first)
    world.pool.put(second)
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(%s)", (second.info.backend_pid,))
        eventually(
            lambda: (
                not admin.execute("select from pg_stat_activity where pid = %s", (second.info.backend_pid,)).fetchone()
                and select.select([second.fileno()], [], [], 0)[0]  # its last words have come
            )
        )
    assert world.get() is first
    assert world.dead == [second]
    assert (second.ended_by, second.closed) == ("57P01", True)
