"""What a starter with schedules has beside the others: the scheduler's world, over the starter's own client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pykka

from pgflow_starter.clock import uniform_unit
from pgflow_starter.core.schedule import Schedule
from pgflow_starter.postgres.stores.schedules import PostgresScheduleStore
from pgflow_starter.scheduling.scheduler_actor import SchedulerActor, SchedulerWorld
from pgflow_starter.telemetry.schedules import OtelSchedules
from pgflow_starter.threads.lane import Lane

if TYPE_CHECKING:
    from pgflow_starter.starter.parts import Parts

WIDTH = 4
"""Ticks that are started at a time at most: each takes a round trip or two."""


class ClientStarter:
    """`starting.TickStarter`, by the calls that everybody starts runs with."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = PostgresScheduleStore(parts.database)

    def start(self, schedule: Schedule, run_id: UUID) -> bool:
        """As `TickStarter.start`."""
        return not self._parts.client.start_flow(schedule.flow, schedule.input, run_id=run_id).found

    def known(self, slug: str, run_ids: Sequence[UUID]) -> tuple[datetime | None, frozenset[UUID]]:
        """As `TickStarter.known`."""
        return self._store.known(slug, run_ids)


def scheduler(parts: Parts) -> Callable[[], pykka.ActorRef[Any]]:
    """What starts the actor of its schedules, of which there must be some."""
    assert parts.schedules is not None
    world = SchedulerWorld(
        board=parts.schedules,
        starter=ClientStarter(parts),
        clock=parts.clock,
        timers=parts.timers,
        lane=Lane(parts.threads, WIDTH),
        backoff=parts.settings.backoff,
        draw_unit=uniform_unit,
        away=lambda: parts.database.outage is not None,
        observer=OtelSchedules(parts.providers, parts.clock),
        redact=parts.redact,
        shutdown=parts.shutdown,
    )
    return partial(SchedulerActor.start, world)
