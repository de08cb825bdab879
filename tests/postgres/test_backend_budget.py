"""The places of backends: those of pools that follow each other, of what was left behind, and for who is urgent."""

from __future__ import annotations

import threading

import pytest

from pgflow_starter.postgres.connections.connection import Backend, Session
from tests.postgres.pool_rig import WAIT, World, asking
from tests.support.waiting import eventually


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
