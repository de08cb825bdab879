"""`HeldTasks`: what the database holds as started by a worker that does not run it, and how it is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.task import Task
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.worker.flights import Flights
from pgflow_starter.worker.outbox import Outbox

if TYPE_CHECKING:
    from pgflow_starter.ports import TaskStore


class HeldTasks:
    """Of one worker. Thread-safe, where it does not say otherwise.

    `given_back()` is called when some were: nobody else announces them. `worker_ids` are those in whose name the
    database may hold tasks; while it is `stopping` it does not say that there are no threads.
    """

    def __init__(
        self,
        store: TaskStore,
        log: ModuleLog,
        flights: Flights,
        outbox: Outbox,
        *,
        worker_ids: Callable[[], list[UUID]],
        stopping: Callable[[], bool],
        given_back: Callable[[], object],
    ) -> None:
        self.unsure = False
        """Whether the database may hold tasks that the worker does not know."""
        self._store = store
        self._log = log
        self._flights = flights
        self._outbox = outbox
        self._worker_ids = worker_ids
        self._stopping = stopping
        self._given_back = given_back
        self._returning: dict[TaskKey, Task] = {}
        self._returned_before: set[TaskKey] = set()
        self._no_thread, self._kept = SaidOnce(), SaidOnce()

    def returning(self) -> list[Task]:
        """Those that a thread is about to give back."""
        return list(self._returning.values())

    def will_return(self, task: Task) -> None:
        """It is under way no more, and about to be given back."""
        self._returning[task.key] = task

    def no_thread_for(self, tasks: list[Task]) -> None:
        """Give these back, which `will_return`, for no thread can be had for them. As `give_back`."""
        if not self._stopping():
            log = self._log.error if self._no_thread.note("no thread") else self._log.debug
            log("no thread for %d tasks, which are given back", len(tasks))
        self.give_back(tasks)

    def give_back(self, tasks: list[Task]) -> None:
        """These, which `will_return`. Blocks on I/O; raises nothing."""
        try:
            for worker_id in self._worker_ids():
                self._store.give_back(worker_id, tasks)
        except Exception as error:
            self.unsure = True
            said = reason_for_logs(error)
            log = self._log.warning if self._kept.note(said) else self._log.debug
            log("giving tasks back: %s", said)
        else:
            self._kept.clear()
        finally:
            for task in tasks:
                self._returning.pop(task.key, None)
        self._given_back()

    def recorded(self) -> None:
        """Outcomes were written: there are threads."""
        self._no_thread.clear()

    def knows_all(self, held: Iterable[Task]) -> bool:
        """Whether the worker knows all that the database holds."""
        known = self._known()
        if not all(task.key in known for task in held):
            return False
        if self._returned_before:
            self._returned_before = set()
            self._outbox.came_again(())
        return True

    def give_back_unknown(self) -> bool:
        """Give back what the database holds and the worker does not know. For one thread, and while none claims.

        False where somebody has some of it locked. Blocks on I/O. Raises DatabaseError.
        """
        known = self._known()
        unknown: dict[UUID, list[Task]] = {}
        for worker_id, task in self._store.started_by(self._worker_ids()):
            if task.key not in known:
                unknown.setdefault(worker_id, []).append(task)
        store = self._store
        returned = set[TaskKey]().union(*(store.give_back(worker_id, tasks) for worker_id, tasks in unknown.items()))
        self._outbox.came_again(returned & self._returned_before)
        self._returned_before = returned
        if returned:
            self._log.warning("%d tasks that it did not know of were held as started: given back", len(returned))
            self._given_back()
        self.unsure = False
        return len(returned) == sum(map(len, unknown.values()))

    def _known(self) -> set[TaskKey]:
        """Under way, to be written, or being given back; in that order, in which a task goes."""
        tasks = [flight.task for flight in self._flights.all()]
        tasks += self._outbox.tasks()
        return {task.key for task in tasks} | set(self._returning)
