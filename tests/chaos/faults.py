"""What is broken, and how. Each fault breaks, waits, and mends what it broke; what heals must heal by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Literal

import psycopg
import pykka

from pgflow_starter import ModuleActor, StarterActor
from pgflow_starter.postgres.install import install
from tests.chaos.asks import everything
from tests.chaos.world import CONNECTIONS, DBNAME, World

Fault = Callable[[World, float], None]
_never = threading.Event()


class Deadly:
    """A message that kills: to show it is to exit."""

    def __repr__(self) -> str:
        raise SystemExit("killed by a message")

    __str__ = __repr__


def _stop(mode: Literal["fast", "immediate"]) -> Fault:
    def stop(world: World, longest: float) -> None:
        world.server.stop(mode)
        _never.wait(world.random.uniform(0, longest))
        world.server.start()

    return stop


def _kill_server(world: World, longest: float) -> None:
    world.server.kill()
    _never.wait(world.random.uniform(0, longest))
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
        _never.wait(world.random.uniform(0, longest))


def _cut(world: World, longest: float) -> None:
    world.proxy.cut()


def _refuse(world: World, longest: float) -> None:
    world.proxy.refuse()
    _never.wait(world.random.uniform(0, longest))
    world.proxy.accept()


def _delay(world: World, longest: float) -> None:
    world.proxy.delay(world.random.uniform(0.005, 0.1))
    _never.wait(world.random.uniform(0, longest))
    world.proxy.accept()


def _black_hole(world: World, longest: float) -> None:
    world.proxy.black_hole()
    _never.wait(world.random.uniform(0, longest))
    world.proxy.accept()


def _kill_actors(world: World, longest: float) -> None:
    kind = world.random.choice((ModuleActor, ModuleActor, StarterActor))
    refs = pykka.ActorRegistry.get_by_class(kind)
    for ref in world.random.sample(refs, min(len(refs), 2)):
        with suppress(pykka.ActorDeadError):
            ref.tell(Deadly()) if world.random.random() < 0.5 else ref.stop(block=False)
    for future in [ask for starter in world.starters for ask in everything(starter)]:
        world.asks.answer(future)  # sent to the dying, answered by who comes after them


def _kill_workers(world: World, longest: float) -> None:
    cells = world.random.choice(world.starters)._runtime._workers.cells()
    for cell in world.random.sample(cells, min(len(cells), 2)):
        if cell.ref is not None:
            with suppress(pykka.ActorDeadError):
                cell.ref.tell(Deadly()) if world.random.random() < 0.5 else cell.ref.stop(block=False)


def _stop_all(world: World, longest: float) -> None:
    pykka.ActorRegistry.stop_all(block=False)


def _kill_process(world: World, longest: float) -> None:
    process = world.random.choice(world.processes)
    process.kill()
    _never.wait(world.random.uniform(0, longest))
    process.start()


def _freeze_process(world: World, longest: float) -> None:
    process = world.random.choice(world.processes)
    process.freeze()
    try:
        _never.wait(world.random.uniform(0, longest))
    finally:
        process.thaw()


def _drop_schema(world: World, longest: float) -> None:
    both = world.random.random() < 0.5
    with world.direct() as admin:
        admin.execute("set lock_timeout = '10s'")
        for _ in range(50):  # until it wins a deadlock with the workers
            try:
                admin.execute("drop schema pgflow cascade; drop schema if exists pgmq cascade" if both else _PGFLOW)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
                continue
            break
    _never.wait(world.random.uniform(0, longest))
    install(world.server.conninfo(DBNAME))
    world.ledger.forget_returned()


_PGFLOW = "drop schema pgflow cascade"

SERVER: dict[str, Fault] = {"stop fast": _stop("fast"), "stop immediate": _stop("immediate"), "kill -9": _kill_server}
SESSIONS: dict[str, Fault] = {"terminate backends": _terminate_backends, "exhaust connections": _exhaust_connections}
NETWORK: dict[str, Fault] = {"cut": _cut, "refuse": _refuse, "delay": _delay, "black hole": _black_hole}
ACTORS: dict[str, Fault] = {"kill actors": _kill_actors, "kill workers": _kill_workers, "stop_all": _stop_all}
"""Each of them costs at least one restart."""
PROCESSES: dict[str, Fault] = {"kill process": _kill_process, "freeze process": _freeze_process}
SCHEMA: dict[str, Fault] = {"drop schema": _drop_schema}

SCENARIOS: dict[str, dict[str, Fault]] = {
    "server": SERVER,
    "sessions": SESSIONS,
    "network": NETWORK,
    "actors": ACTORS,
    "processes": PROCESSES,
    "everything": {**SERVER, **SESSIONS, **NETWORK, **ACTORS, **PROCESSES},
    "schema": SCHEMA,
}
