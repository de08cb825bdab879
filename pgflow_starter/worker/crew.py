"""`Crew`: the threads that run a worker's claimed tasks. One that is done with a task takes the next.

Each claimed task finds a thread at once, yet tasks that take no time do not wake one each: a thread calls the next one
only when it begins, and by then the first may have run them all. So a batch of short tasks runs on one thread, and its
outcomes are written together.

A task's thread, its timer and its worker's end may all say what became of it; the first that lands the flight counts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.task import Task
from pgflow_starter.threads.cache import doing, run_patiently
from pgflow_starter.worker.execution import execute, failed
from pgflow_starter.worker.failure_log import FailureLog
from pgflow_starter.worker.flights import Flight, Flights
from pgflow_starter.worker.held_tasks import HeldTasks
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.world import WorkerWorld


class Crew:
    """One worker's. Thread-safe; it outlives the actor that launches the tasks.

    `landed()` is called when slots are free, `hanging()` when a task was given up whose thread goes on, and when such a
    thread has ended. Tasks for which no thread is to be had, or whose worker has stopped, go to what is `held`.
    """

    def __init__(
        self,
        definition: FlowDefinition,
        flights: Flights,
        outbox: Outbox,
        held: HeldTasks,
        world: WorkerWorld,
        failing: FailureLog,
        *,
        hanging: Callable[[], object],
        landed: Callable[[], object],
    ) -> None:
        self._definition = definition
        self._flights = flights
        self._outbox = outbox
        self._held = held
        self._world = world
        self._soon = partial(run_patiently, world.threads, world.timers)
        self._failing = failing
        self._hanging = hanging
        self._landed = landed
        self._ready: deque[Flight] = deque()
        self._lock = threading.Lock()
        self._called = False
        self._serving: set[int] = set()

    def launch(self, tasks: Sequence[Task], received: object | None = None) -> None:
        """Run each task's handler on a thread; its time counts from now. Does not wait.

        On a thread that serves, that one takes them first. `received` is what the observer said of their claim.
        """
        now = self._world.clock.monotonic()
        late: list[Task] = []
        for task in tasks:
            step = self._definition.step(task.step_slug)
            assert step is not None  # a claim gives back what is another code's
            timeout = self._definition.timeout_of(step)
            flight = Flight(task, now + timeout, received)
            if not self._flights.add(flight):
                self._held.will_return(task)
                late.append(task)
                continue
            flight.timer = self._world.timers.after(timeout, partial(self._overdue, flight, timeout))
            self._ready.append(flight)
        if late:
            self._held.give_back(late)
        if threading.get_ident() not in self._serving:
            self._call()

    def _call(self) -> None:
        """Have one more thread come, unless one is on its way: that one calls the next."""
        with self._lock:
            if self._called or not self._ready:
                return
            self._called = True
        try:
            self._world.threads.run(self._come)
        except RuntimeError:
            with self._lock:
                self._called = False
            self._strand()

    def _strand(self) -> None:
        """No thread: one that is at work might take these tasks, but perhaps in an hour."""
        tasks: list[Task] = []
        while (flight := self._next()) is not None:
            if self._flights.land(flight, partial(self._held.will_return, flight.task)):
                tasks.append(flight.task)
        self._held.give_back(tasks)

    def serve(self, first: Callable[[], bool] | None = None) -> None:
        """Run what is ready on this thread, unless `first` says that it launched nothing. Blocks while handlers run."""
        me = threading.get_ident()
        self._serving.add(me)
        try:
            if first is not None and not first():
                return
            while (flight := self._next()) is not None:
                self._call()
                self._run(flight)
        finally:
            self._serving.discard(me)

    def _come(self) -> None:
        with self._lock:
            self._called = False
        self.serve()

    def _next(self) -> Flight | None:
        try:
            return self._ready.popleft()
        except IndexError:
            return None

    def _run(self, flight: Flight) -> None:
        """Run the handler and see to its outcome."""
        if flight.cancelled.is_set():  # given up before it began
            self._ended_late(flight)
            return
        with doing(f"{flight.task.flow_slug}.{flight.task.step_slug}"):
            # In a context of its own: what a handler leaves in it is no business of the next one on this thread.
            landed = Context().run(self._handle, flight)
        if not landed:
            return
        if self._ready:
            self._outbox.flush_soon(self._soon)  # the next task may take its time
        else:
            self._landed()
            self._outbox.flush()

    def _handle(self, flight: Flight) -> bool:
        """Call the handler and put its outcome where it will be written; False where nobody wants it any more."""
        landed = False
        with self._world.messages.processing(flight.task, flight.received) as say:
            outcome, error = execute(self._definition, flight.task, flight.deadline, flight.cancelled)
            if flight.timer is not None:
                flight.timer.cancel()
            # Before the span ends, for an exporter may hang.
            landed = self._flights.land(flight, partial(self._outbox.add, outcome))
            if landed:
                say(outcome, self._failing.log(outcome, error))
            else:
                self._ended_late(flight)
                given_up = failed(flight.task, "given up before it ended", "CancelledError")
                say(given_up, self._failing.of(given_up))
        return landed

    def _ended_late(self, flight: Flight) -> None:
        self._flights.ended_late(flight)
        self._hanging()
        self._landed()

    def _overdue(self, flight: Flight, timeout: int) -> None:
        """On the timers' thread: the task took too long. Not by a message: the actor may wait in a claim, or stop."""
        self._soon(partial(self._give_up, flight, timeout))

    def _give_up(self, flight: Flight, timeout: int) -> None:
        """The task has failed, and whatever its thread still returns is ignored."""
        text = f"TimeoutError: the task has not ended within its timeout of {timeout} s"
        outcome = failed(flight.task, text, "TimeoutError")
        if not self._flights.land(flight, partial(self._outbox.add, outcome), ended=False):
            return
        self._hanging()
        self._landed()
        self._failing.log(outcome)
        self._outbox.flush()
