"""What is broken around the database and in the processes, and how.

Each fault breaks, waits, and mends what it broke; what heals must heal by itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, Literal
from uuid import UUID

import psycopg
import pykka

import pgflow_starter as pgflow
from pgflow_starter import ModuleActor, StarterActor
from tests.chaos.asks import everything
from tests.chaos.sender import Sender
from tests.chaos.world import CONNECTIONS, Fault, World

SLOW = (0.2e6, 5e6)
"""Bytes a second of a slow link."""
BIG = (300_000, 2_000_000)
"""Characters of a big input, of which no more are sent than half of the longest fault hands on."""
BIG_RUNS = 4
JOBS = ("chaos_quick", "chaos_slow")


class Deadly:
    """A message that kills: to show it is to exit."""

    def __repr__(self) -> str:
        raise SystemExit("killed by a message")

    __str__ = __repr__


def _stop(mode: Literal["fast", "immediate"]) -> Fault:
    def stop(world: World, longest: float) -> None:
        world.server.stop(mode)
        world.hold(longest)
        world.server.start()

    return stop


def _kill_server(world: World, longest: float) -> None:
    world.server.kill()
    world.hold(longest)
    world.server.start()


def _terminate_backends(world: World, longest: float) -> None:
    part = world.random.choice((0.2, 0.5, 1.0))
    with suppress(psycopg.Error), world.direct() as admin:
        admin.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where pid <> pg_backend_pid() and datname = current_database() and (hashtext(pid::text) & 127) < %s",
            (int(part * 128),),
        )


def _exhaust_connections(world: World, longest: float) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            try:
                stack.enter_context(psycopg.connect(world.server.conninfo()))
            except psycopg.OperationalError:
                break
        world.hold(longest)


def _cut(world: World, longest: float) -> None:
    world.proxy.cut()


def _refuse(world: World, longest: float) -> None:
    world.proxy.refuse()
    world.hold(longest)
    world.proxy.accept()


def _delay(world: World, longest: float) -> None:
    world.proxy.delay(world.random.uniform(0.005, 0.1))
    world.hold(longest)
    world.proxy.accept()


def _black_hole(world: World, longest: float) -> None:
    world.proxy.black_hole()
    world.hold(longest)
    world.proxy.accept()


def _kill_actors(world: World, longest: float) -> None:
    kind = world.random.choice((ModuleActor, ModuleActor, StarterActor))
    _kill(world, pykka.ActorRegistry.get_by_class(kind))
    for future in [ask for starter in world.starters for ask in everything(starter)]:
        world.asks.answer(future)  # sent to the dying, answered by who comes after them


def _kill_workers(world: World, longest: float) -> None:
    cells = world.random.choice(world.runtimes).parts.workers.cells()
    _kill(world, [cell.ref for cell in cells if cell.ref is not None])


def _kill(world: World, refs: Sequence[pykka.ActorRef[Any]]) -> None:
    for ref in world.random.sample(refs, min(len(refs), 2)):
        with suppress(pykka.ActorDeadError):
            ref.tell(Deadly()) if world.random.random() < 0.5 else ref.stop(block=False)


def _stop_all(world: World, longest: float) -> None:
    pykka.ActorRegistry.stop_all(block=False)


def _kill_process(world: World, longest: float) -> None:
    process = world.random.choice(world.processes)
    process.kill()
    world.hold(longest)
    process.start()


def _freeze_process(world: World, longest: float) -> None:
    process = world.random.choice(world.processes)
    process.freeze()
    try:
        world.hold(longest)
    finally:
        process.thaw()


def _slow_link(world: World, longest: float) -> None:
    until = time.monotonic() + world.random.uniform(longest / 2, longest)
    rate = 10 ** world.random.uniform(*map(math.log10, SLOW))
    largest = int(min(BIG[1], max(BIG[0], rate * longest / 2)))
    world.proxy.throttle(rate)
    sender = Sender((), world.random, world.ledger.returned, lambda kind: world.ledger.count(f"refused: big, {kind}"))
    given_up: list[tuple[pgflow.Starter, str, str, UUID]] = []
    for _ in range(BIG_RUNS):
        run_id = UUID(int=world.random.getrandbits(128), version=4)
        big = "x" * world.random.randint(BIG[0], largest)
        call = (world.random.choice(world.starters), world.random.choice(JOBS), big, run_id)
        world.ledger.count("big runs")
        if not sender.send(*call):
            given_up.append(call)
        if time.monotonic() >= until:
            break
    world.hold(max(0.0, until - time.monotonic()))
    world.proxy.accept()
    for call in given_up:  # the id makes it the same run
        sender.send(*call)


SERVER: dict[str, Fault] = {"stop fast": _stop("fast"), "stop immediate": _stop("immediate"), "kill -9": _kill_server}
SESSIONS: dict[str, Fault] = {"terminate backends": _terminate_backends, "exhaust connections": _exhaust_connections}
NETWORK: dict[str, Fault] = {"cut": _cut, "refuse": _refuse, "delay": _delay, "black hole": _black_hole}
LINK: dict[str, Fault] = {"slow link": _slow_link}
ACTORS: dict[str, Fault] = {"kill actors": _kill_actors, "kill workers": _kill_workers, "stop_all": _stop_all}
"""Each of them costs at least one restart."""
PROCESSES: dict[str, Fault] = {"kill process": _kill_process, "freeze process": _freeze_process}
