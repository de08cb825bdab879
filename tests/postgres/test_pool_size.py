"""How many connections a pool has: never more than allowed, fewer where the server is crowded or nobody needs them."""

from __future__ import annotations

import pytest

from pgflow_starter.postgres.connections import pool as pool_module
from pgflow_starter.postgres.connections.pool import CROWDED_FOR
from tests.postgres.pool_rig import SOON, World
from tests.support.waiting import eventually


def test_it_connects_when_none_is_free_and_never_more_than_its_size(world: World) -> None:
    taken = world.take(3)
    assert len(set(taken)) == 3
    said = world.get_none()
    assert (said.error_type, said.connection_lost) == ("PoolTimeout", False)
    world.pool.put(taken[1])
    assert world.get() is taken[1]


def test_nothing_takes_the_place_of_one_that_broke_until_somebody_needs_it(world: World) -> None:
    for conn in world.take(3):
        conn.close()
        world.pool.put(conn)
    world.get()  # made after the pool's one thread was done with the others
    assert len(world.made) == 4


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
