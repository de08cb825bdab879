"""The supervision tree of a starter, whole: who is started in which order, and how often each may be restarted.

Every supervisor is one_for_one, for nobody depends on another's incarnation: what outlives a crash is on the board's
cells and the workers' cells, in the timers' heap and the listener's queues; and an actor that needs a supervisor asks
the tree for the one that there is. Children stop in the opposite order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pykka

from pgflow_starter.core.state import ChildInfo
from pgflow_starter.modules.module_actor import ModuleActor
from pgflow_starter.starter.parts import Parts
from pgflow_starter.starter.starter_actor import STARTER_ID, StarterActor
from pgflow_starter.supervision.guardian import GuardianActor
from pgflow_starter.supervision.specs import ChildSpec, ChildType, SupervisorFlags
from pgflow_starter.supervision.supervisor import DynamicSupervisorActor, SupervisorActor
from pgflow_starter.threads.own_thread import Threaded
from pgflow_starter.worker.heartbeat import HeartbeatActor, Pulse
from pgflow_starter.worker.housekeeper_actor import HousekeeperActor, Rhythm
from pgflow_starter.worker.workers import SUPERVISOR_ID as WORKERS_ID
from pgflow_starter.worker.workers_supervisor import WorkersSupervisorActor

ROOT_ID = "root"

ROOT_FLAGS = SupervisorFlags(max_restarts=500, max_seconds=60.0)
"""Generous: each `stop_all()` of another library costs the StarterActor a restart, and every fourth one a supervisor's
that its children's restarts were too many for; four hundred within a minute shall take nobody down for good. What
crashes as soon as it is started gives up on a busy machine too, where a restart takes fifty times as long."""

HOUSEKEEPER_SHUTDOWN = 0.5
"""Seconds that the housekeeper gets to stop: what it may be waiting for is of no use any more."""


def root(parts: Parts, which_children: Callable[[], tuple[ChildInfo, ...]]) -> Callable[[], pykka.ActorRef[Any]]:
    """What starts the root, and with it everything below. `which_children` tells of the tree, the root included."""
    children = root_children(parts, which_children)
    return partial(SupervisorActor.start, ROOT_ID, children, flags=ROOT_FLAGS, **_common(parts))


def root_children(parts: Parts, which_children: Callable[[], tuple[ChildInfo, ...]]) -> list[ChildSpec]:
    """The tree, in the order of its start."""
    settings, pulse = parts.settings, Pulse()
    rhythm = Rhythm(
        heartbeat=settings.heartbeat_interval, recovery=settings.recovery_interval, stale=settings.stale_threshold
    )
    of_housekeepers = parts.workers, parts.clock, parts.timers
    return [
        _guardian("timers", parts.timers),
        _guardian("database", parts.database),
        *([] if parts.listener is None else [_guardian("listener", parts.listener)]),
        _guardian("event-loop", parts.event_loop),
        # Before the workers, so that they stop after them: heartbeats go on for as long as tasks run.
        ChildSpec(
            "heartbeat",
            partial(
                HeartbeatActor.start,
                *of_housekeepers,
                rhythm.heartbeat,
                pulse,
                parts.worker_retired,
                parts.shutdown,
            ),
            shutdown=HOUSEKEEPER_SHUTDOWN,
        ),
        ChildSpec(
            "housekeeper",
            partial(HousekeeperActor.start, *of_housekeepers, rhythm, pulse, parts.shutdown),
            shutdown=HOUSEKEEPER_SHUTDOWN,
        ),
        *_pruner(parts),
        # One WorkerActor a module, from the phase in which it is wired on: see `Workers.specs`.
        _supervisor(
            WORKERS_ID,
            partial(WorkersSupervisorActor.start, parts.workers, watcher=parts.worker_died),
            parts,
        ),
        _supervisor(
            "modules",
            partial(DynamicSupervisorActor.start, "modules", partial(module_children, parts)),
            parts,
        ),
        *_scheduler(parts),
        ChildSpec(STARTER_ID, partial(StarterActor.start, parts.board, parts.tree, which_children)),
    ]


def _pruner(parts: Parts) -> list[ChildSpec]:
    """If there is a retention."""
    if parts.pruning is None:
        return []
    from pgflow_starter.worker.pruner_actor import PrunerActor

    start = partial(PrunerActor.start, parts.pruning, parts.clock, parts.timers, parts.shutdown)
    return [ChildSpec("pruner", start, shutdown=HOUSEKEEPER_SHUTDOWN)]


def _scheduler(parts: Parts) -> list[ChildSpec]:
    """The scheduler, if it has something to do. After the workers, so that it stops before them."""
    if parts.schedules is None:
        return []
    from pgflow_starter.starter.schedules import scheduler

    return [ChildSpec("scheduler", scheduler(parts))]


def module_children(parts: Parts) -> list[ChildSpec]:
    """One ModuleActor a module."""
    return [
        ChildSpec(f"{cell.spec.name}#{cell.spec.key}", partial(ModuleActor.start, cell, parts.module_world))
        for cell in parts.board.cells
    ]


def _guardian(name: str, guarded: Threaded) -> ChildSpec:
    """The thread of a part that is no actor."""
    return ChildSpec(name, partial(GuardianActor.start, name, guarded))


def _supervisor(name: str, start: Callable[..., Any], parts: Parts) -> ChildSpec:
    # Somebody's stop_all() ends all the children at once: restarts in proportion to their number are no reason to
    # give up.
    flags = SupervisorFlags(max_restarts=3 + 3 * len(parts.specs), max_seconds=5.0)
    return ChildSpec(name, partial(start, flags=flags, **_common(parts)), type=ChildType.SUPERVISOR)


def _common(parts: Parts) -> dict[str, Any]:
    return {"clock": parts.clock, "tree": parts.tree, "observer": parts.incidents}
