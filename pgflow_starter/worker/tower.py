"""`Tower`: lets a worker's tasks take off on threads of the cache, watches their time and sees them land.

A task's thread, its timer and its worker's end may all say what became of it; whoever lands the flight first counts.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial

from pgflow_starter.core.task import Task
from pgflow_starter.worker.cell import WorkerCell, WorkerWorld
from pgflow_starter.worker.execution import execute, failed
from pgflow_starter.worker.flights import Flight
from pgflow_starter.worker.messages import Landed

logger = logging.getLogger("pgflow_starter.workers")


class Tower:
    """One worker's. It keeps nothing to itself: all flights are on the cell."""

    def __init__(self, cell: WorkerCell, world: WorkerWorld) -> None:
        self._cell = cell
        self._world = world

    def fly(self, task: Task) -> None:
        """Run the task's handler on a thread. Gives it back where there is none: raises DatabaseError."""
        cell, world = self._cell, self._world
        step = cell.definition.step(task.step_slug)
        timeout = cell.definition.timeout if step is None else cell.definition.timeout_of(step)
        deadline = world.clock.monotonic() + timeout
        flight = Flight(task)
        cell.flights.add(flight)
        flight.timer = world.timers.after(timeout, partial(self._overdue, flight, timeout))
        try:
            world.threads.run(partial(self._run, flight, deadline))
        except RuntimeError as error:
            if flight.land():
                cell.flights.remove(flight)
                logger.error("%s: no thread for a task: %s", cell.definition.slug, error)
                world.store.give_back(cell.worker_id, [task])

    def _run(self, flight: Flight, deadline: float) -> None:
        """On a thread of the cache: run the handler and see to its outcome."""
        cell = self._cell
        outcome = execute(cell.definition, flight.task, deadline, flight.cancelled)
        if flight.timer is not None:
            flight.timer.cancel()
        if not flight.land():
            cell.flights.ended_late()
            return
        try:
            cell.outbox.put(outcome)
        finally:
            cell.flights.remove(flight)
            cell.tell(Landed())

    def _overdue(self, flight: Flight, timeout: int) -> None:
        """On the timers' thread: the task took too long. Not by a message: the actor may wait in a claim, or stop."""
        with suppress(RuntimeError):  # no thread to be had: it ends when its handler does
            self._world.threads.run(partial(self._give_up, flight, timeout))

    def _give_up(self, flight: Flight, timeout: int) -> None:
        """The task has failed, and whatever its thread still returns is ignored."""
        if not flight.land():
            return
        cell = self._cell
        # First: a task that is neither under way nor in the outbox is taken for one that nobody knows.
        cell.outbox.add(failed(flight.task, f"TimeoutError: the task has not ended within its timeout of {timeout} s"))
        cell.flights.give_up(flight)
        cell.outbox.flush()
        cell.tell(Landed())
