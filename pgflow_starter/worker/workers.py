"""`Workers`: the cells of all workers of a starter, and starting them under their supervisor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.trouble import Trouble
from pgflow_starter.errors import DatabaseError
from pgflow_starter.supervision.specs import ChildSpec
from pgflow_starter.supervision.tree import Tree
from pgflow_starter.worker.cell import WorkerCell
from pgflow_starter.worker.troubles import Troubles
from pgflow_starter.worker.worker_actor import WorkerActor
from pgflow_starter.worker.world import WorkerWorld

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope, FlowStore, TaskStore

logger = logging.getLogger("pgflow_starter.workers")

SUPERVISOR_ID = "workers"


class Workers:
    """Workers by slug. Thread-safe."""

    def __init__(self, tree: Tree, flow_store: FlowStore, world: WorkerWorld, slots: int, call_timeout: float) -> None:
        self._tree = tree
        self._flow_store = flow_store
        self._world = world
        self._slots = slots
        self._call_timeout = call_timeout
        self._lock = threading.Lock()
        self._cells: dict[str, WorkerCell] = {}
        self._queues: dict[str, Sequence[str]] = {}
        self._flows: dict[str, str] = {}

    def cells(self) -> list[WorkerCell]:
        """All of them."""
        # Without the lock: a signal handler may ask on top of the thread that holds it.
        return list(self._cells.values())

    @property
    def store(self) -> TaskStore:
        """What the database holds of them."""
        return self._world.store

    def tell_ended(self, runs: Sequence[EndedRun]) -> None:
        """These runs have ended, for the workers of their last tasks died. Does not wait."""
        self._world.tally.note_ended(runs)
        self._world.ended([run for run in runs if run.headers is not None])

    def ensure(self, module: str, definition: FlowDefinition, scope: CancelScope) -> None:
        """Register the worker of that module's flow in the database and start it; one that runs is left as it is.

        Blocks on I/O. Raises DatabaseError, ChildStartError, ActorDeadError while its supervisor is being restarted.
        """
        with self._lock:
            cell = self._cells.get(definition.slug)
        if cell is None:
            cell = self._new_cell(module, definition)
        elif cell.draining:
            cell.hand_over()  # deprecated: from now on it is another worker
        self._flow_store.register_workers([(cell.worker_id, definition.slug)], scope)
        with self._lock:
            self._cells[definition.slug] = cell
        cell.wire()
        self._tree.call(SUPERVISOR_ID, "ensure_child", self._spec(cell), timeout=self._call_timeout)

    def ensure_new(self, wanted: Sequence[tuple[str, FlowDefinition]], scope: CancelScope) -> set[str]:
        """As `ensure` for each that has no worker yet; the slugs of those whose worker runs now. Raises as `ensure`."""
        with self._lock:
            cells = [self._new_cell(module, d) for module, d in wanted if d.slug not in self._cells]
        if not cells:
            return set()
        self._flow_store.register_workers([(cell.worker_id, cell.definition.slug) for cell in cells], scope)
        with self._lock:
            self._cells |= {cell.definition.slug: cell for cell in cells}
        specs = [self._spec(cell) for cell in cells]
        return set(self._tree.call(SUPERVISOR_ID, "ensure_children", specs, timeout=self._call_timeout))

    def supply(self, slug: str, queues: Sequence[str]) -> None:
        """These are the flow's queues, where each of its steps has one; with none it is the one of its own name."""
        self._queues[slug] = queues
        self._flows.update(dict.fromkeys(queues, slug))

    def queues_of(self, slug: str) -> Sequence[str]:
        """Those that the flow was supplied with."""
        return self._queues.get(slug) or (slug,)

    def queues(self) -> list[str]:
        """Those of all of them. Never waits."""
        return [queue for slug in list(self._cells) for queue in self.queues_of(slug)]

    def wake(self, queue: str) -> None:
        """A notification for that queue came."""
        cell = self._cells.get(self._flows.get(queue, queue))
        if cell is not None:
            cell.wake()

    def listening(self, slug: str) -> None:
        """LISTEN is in force for the flow's queues."""
        cell = self._cells.get(slug)
        if cell is not None:
            cell.listening()

    def troubles_of(self, queue: str) -> Troubles:
        """Those of the queue's worker, which there must be."""
        return self._cells[self._flows.get(queue, queue)].troubles

    def trouble_of_all(self, slug: str | None, lasting: bool) -> Trouble | None:
        """What keeps the queue's worker from all work, or has for a while."""
        cell = None if slug is None else self._cells.get(slug)
        return None if cell is None else cell.troubles.of_all(lasting=lasting)

    def lost(self, slug: str) -> None:
        """The queue's worker died; until it is wired again it counts as lost, although its supervisor restarts it."""
        cell = self._cells.get(slug)
        if cell is not None:
            cell.lost = True

    def database_back(self) -> None:
        """The database is reachable again; what one worker's cell makes of it is no business of the others'."""
        for cell in self.cells():
            try:
                cell.database_back()
            except Exception as error:
                cell.log.error("the database is back, and it failed for that", exc_info=error)

    def say_stopped(self) -> None:
        """Say in the database that all workers that have ended in order are stopped, and log why others could not.

        Blocks on I/O; raises nothing.
        """
        cells = [cell for cell in self.cells() if cell.ended]
        worker_ids = [worker_id for cell in cells for worker_id in cell.worker_ids]
        unsaid: list[str] = []
        for cell in self.cells():
            why, cell.unsaid = cell.unsaid, ""
            unsaid += [why] if why else []
        try:
            if worker_ids:
                self.store.workers_stopped(worker_ids)
        except DatabaseError as error:
            unsaid.append(reason_for_logs(error))
        else:
            for cell in cells:
                cell.former.clear()
                cell.leaving.clear()
                cell.begin_anew()
        for why in dict.fromkeys(unsaid):  # an outage is one line, however many workers there are
            logger.warning("the end of the workers could not be written: %s", why)

    def runs_under_way(self) -> set[UUID]:
        """Those of which tasks run here, or wait for a slot. Never waits."""
        return {flight.task.run_id for cell in self.cells() for flight in cell.flights.all()}

    def runs_ended(self, run_ids: Collection[UUID]) -> None:
        """These have, and that is in the database: their tasks are called off. Does not wait."""
        for cell in self.cells():
            cell.call_off(run_ids)

    def hurry(self) -> None:
        """The shutdown's deadline has come nearer."""
        for cell in self.cells():
            cell.flights.nudge()

    def specs(self) -> list[ChildSpec]:
        """The child specs of all workers there are, for a supervisor that is started again."""
        return [self._spec(cell) for cell in self.cells()]

    def _new_cell(self, module: str, definition: FlowDefinition) -> WorkerCell:
        self._world.tally.note(definition, (), ())
        return WorkerCell(module, definition, definition.max_concurrency or self._slots, self._world)

    def _spec(self, cell: WorkerCell) -> ChildSpec:
        start: Callable[[], object] = partial(WorkerActor.start, cell, self._world)
        # How long a worker may take to stop is decided by the shutdown's deadline, which it keeps itself.
        return ChildSpec(cell.definition.slug, start, shutdown=float("inf"))
