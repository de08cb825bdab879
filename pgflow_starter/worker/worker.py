"""`WorkerActor`: polls the queue of one flow or job, claims tasks for its free slots and has them run.

It claims on its own thread and never beyond its free slots; handlers run on threads of the cache, and their outcomes
are written by those. What must survive its crash is on its `WorkerCell`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from pgflow_starter.actors.base import Actor
from pgflow_starter.actors.phase_job import PhaseScope
from pgflow_starter.core.state import SignalStrategy
from pgflow_starter.errors import DatabaseError, UnknownFlowError
from pgflow_starter.worker.cell import WorkerCell, WorkerWorld
from pgflow_starter.worker.messages import Landed, Poll, PollDue, Wake
from pgflow_starter.worker.polling import root_delays
from pgflow_starter.worker.tower import Tower

logger = logging.getLogger("pgflow_starter.workers")

VISIBLE_MARGIN = 0.01
"""Seconds after a message becomes visible that it is looked for."""


class WorkerActor(Actor):
    """One per registered module."""

    def __init__(self, cell: WorkerCell, world: WorkerWorld) -> None:
        super().__init__()
        self._cell = cell
        self._world = world
        self._token = 0
        self._interval = 0.0
        self._more = False
        self._lost = False
        self._terminated = False
        self._scope = PhaseScope()
        self._tower = Tower(cell, world)

    def name(self) -> str:
        return f"pgflow-worker-{self._cell.definition.slug}"

    def on_start(self) -> None:
        cell = self._cell
        # What a predecessor had claimed but not yet begun is known to nobody.
        cell.claims_unsure = cell.claims_unsure or cell.ref is not None
        cell.ref = self.actor_ref
        cell.poll_asked = False
        cell.poll_soon()

    def on_receive(self, message: Any) -> None:
        match message:
            case Poll():
                self._cell.poll_asked = False
                self._poll()
            case Wake():
                self._poll()
                self._cell.poll_in(root_delays(self._cell.definition))
                if self._world.policy.trailing is not None:
                    self._cell.poll_in([self._world.policy.trailing])
            case PollDue(token):
                if token == self._token:
                    self._poll()
            case Landed():
                if self._more:
                    self._poll()
            case _:
                super().on_receive(message)

    def cancel(self) -> None:
        self._terminated = True
        with suppress(RuntimeError):  # no thread to be had: the claim ends by itself
            self._world.threads.run(self._scope.cancel)

    def on_stop(self) -> None:
        """Let running tasks end until the shutdown's deadline, then give back what still runs.

        Only when the supervisor ends the worker: one that somebody else stopped is started again at once, and its
        successor finds the tasks on the cell.
        """
        cell, world = self._cell, self._world
        if not self._terminated:
            return
        cell.flights.wait_empty(world.clock, lambda: world.shutdown.deadline)
        left = [f.task for f in cell.flights.all() if f.land()]
        for flight in cell.flights.all():
            cell.flights.give_up(flight)
        try:
            if not cell.outbox.flush(wait=True):
                logger.error("%s: %d outcomes could not be written", cell.definition.slug, len(cell.outbox))
            if left:
                logger.warning("%s: %d tasks did not end in time and are given back", cell.definition.slug, len(left))
                world.store.give_back(cell.worker_id, left)
            world.store.worker_stopped(cell.worker_id)
            cell.retire()
        except DatabaseError as error:
            logger.warning("%s: the worker's end could not be written: %s", cell.definition.slug, error)

    def _poll(self) -> None:
        cell, world = self._cell, self._world
        # Outcomes that wait to be written count as well, beyond one for each slot: what is not written runs again
        # should this process die.
        free = cell.slots - len(cell.flights) - max(0, len(cell.outbox) - cell.slots)
        if self._terminated or cell.draining or cell.unwired:
            return
        if free <= 0:
            self._more = True
            return
        quantity = min(free, world.batch_size)
        try:
            if cell.claims_unsure:
                known = [f.task for f in cell.flights.all()] + cell.outbox.tasks()
                world.store.give_back_unknown(cell.worker_id, cell.definition.slug, known)
                cell.claims_unsure = False
            read, tasks = world.store.claim(cell.definition, cell.worker_id, quantity, self._scope)
        except UnknownFlowError:
            # Dies, so that its module registers again, from the worker phase on; and waits for that: see `wire`.
            cell.unwired = True
            raise
        except DatabaseError as error:
            # A connection that broke while claiming may have claimed all the same.
            cell.claims_unsure = True
            self._interval = world.policy.after_error(self._interval)
            if error.connection_lost and not self._lost:
                cell.poll_soon()  # the database may be there: the next connection waits until that is known
            self._lost = error.connection_lost
            logger.log(
                logging.DEBUG if error.connection_lost or self._terminated else logging.WARNING,
                "%s: polling: %s",
                cell.definition.slug,
                error,
            )
        except Exception:
            # A fault of ours, or of one message: another worker would meet it as well, and then the whole starter.
            cell.claims_unsure = True
            self._interval = world.policy.after_error(self._interval)
            logger.exception("%s: polling", cell.definition.slug)
        else:
            self._lost = False
            for task in tasks:
                self._tower.fly(task)
            self._more = read >= quantity
            if self._more and len(cell.flights) < cell.slots:
                cell.poll_soon()
            self._interval = world.policy.after(read > 0, self._interval)
            if read == 0:
                self._mind_invisible()
        self._token += 1
        cell.later(self._interval, PollDue(self._token))

    def _mind_invisible(self) -> None:
        """Nobody announces that a message becomes visible: a retry, a delayed one, one whose worker died."""
        cell, world = self._cell, self._world
        if world.policy.strategy is not SignalStrategy.NOTIFY:
            return
        try:
            seconds = world.store.next_visible(cell.definition.slug)
        except DatabaseError:
            return
        if seconds is not None:
            self._interval = min(self._interval, max(0.0, seconds) + VISIBLE_MARGIN)
