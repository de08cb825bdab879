"""`Crew`: the threads that run a worker's claimed tasks, so many at a time. One that has done a task takes the next.

Those of asynchronous handlers are the event loop's: see `Coroutines`. Here is what both have in common.

Each task for which there is a slot finds a thread at once, yet tasks that take no time do not wake one each: a thread
calls the next one only when it begins, and by then the first may have run them all. So a batch of short tasks runs on
one thread, and its outcomes are written together.

Some tasks may have been claimed ahead of their slots. Those that do not begin soon all the same, for the ones before
them take their time, are given back: they could begin elsewhere.

A task's thread, the timers and its worker's end may all say what became of it; the first that lands the flight counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from functools import partial
from math import inf
from typing import TYPE_CHECKING
from uuid import UUID

from pgflow_starter.core.definition import FlowDefinition, StepDefinition
from pgflow_starter.core.handlers import is_async
from pgflow_starter.core.task import Task
from pgflow_starter.threads.cache import doing, run_patiently
from pgflow_starter.worker.ahead import Ahead
from pgflow_starter.worker.alarm import Alarm
from pgflow_starter.worker.execution import execute, failed
from pgflow_starter.worker.failure_log import FailureLog
from pgflow_starter.worker.flights import Flight, Flights
from pgflow_starter.worker.held_tasks import HeldTasks
from pgflow_starter.worker.landings import Landings
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.world import WorkerWorld

if TYPE_CHECKING:  # loaded with the first async handler
    from pgflow_starter.worker.coroutines import Coroutines

PATIENCE = 0.5
"""Seconds that a claimed task waits for a slot until it is given back. Less than any timeout."""


class Crew:
    """One worker's. Thread-safe; it outlives the actor that launches the tasks.

    `landed()` is called when slots are free, `hanging()` when a task was given up whose thread goes on, and when such a
    thread has ended. Tasks that find no thread or no slot, or whose worker has stopped, go to what is `held`.
    """

    def __init__(
        self,
        definition: FlowDefinition,
        slots: int,
        ahead: Ahead,
        flights: Flights,
        outbox: Outbox,
        held: HeldTasks,
        world: WorkerWorld,
        failing: FailureLog,
        *,
        hanging: Callable[[], object],
        landed: Callable[[], object],
    ) -> None:
        self._steps = {
            s.slug: (s, definition.timeout_of(s), f"{definition.slug}.{s.slug}", is_async(s.handler))
            for s in definition.steps
        }
        self._slots = slots
        self._ahead = ahead
        self._flights = flights
        self._outbox = outbox
        self._held = held
        self._world = world
        self._now = world.clock.monotonic
        self._middleware = world.middleware
        self._soon = partial(run_patiently, world.threads, world.timers)
        self._landings = Landings(flights, outbox, ahead, failing, world.clock, hanging)
        self._failing = failing
        self._hanging = hanging
        self._landed = landed
        self._coroutines: Coroutines | None = None
        if any(on_loop for _, _, _, on_loop in self._steps.values()):
            from pgflow_starter.worker.coroutines import Coroutines

            self._coroutines = Coroutines(
                {slug: (step, name) for slug, (step, _, name, _) in self._steps.items()},
                slots,
                flights,
                outbox,
                held,
                world,
                self._landings,
                call_thread=self._call_thread,
                landed=landed,
            )
        self._alarm = Alarm(world.clock, world.timers, self._look)
        self._lock = threading.Lock()
        self._called = False
        self._serving: set[int] = set()

    def launch(self, tasks: Sequence[Task], received: object | None = None) -> None:
        """Run each task's handler as soon as there is a slot; its time counts from then. Does not wait.

        On a thread that serves, that one takes them first. `received` is what the observer said of their claim.
        """
        if not tasks:
            return
        now, steps = self._now(), [self._steps[task.step_slug] for task in tasks]
        flights = [
            Flight(task, timeout, now, received, on_loop)
            for task, (_, timeout, _, on_loop) in zip(tasks, steps, strict=True)
        ]
        if not self._flights.add(*flights):
            for task in tasks:
                self._held.will_return(task)
            self._held.no_thread_for(list(tasks))
            return
        # None of them is overdue before, nor has one waited for long, be it for a loop that is blocked.
        may_wait = len(self._flights) > self._slots or self._coroutines is not None
        self._alarm.set(now + (PATIENCE if may_wait else min(flight.timeout for flight in flights)))
        if threading.get_ident() not in self._serving:
            self._call()
        self._call_loop()

    def claim_begins(self) -> None:
        """What it brings will be launched, but for what is called off from now on."""
        self._flights.claim_begins()

    def call_off(self, run_ids: Collection[UUID], *, claiming: bool) -> None:
        """As `Flights.call_off`. Does not wait."""
        if self._flights.call_off(run_ids, claiming=claiming):
            self._landed()

    def _call(self) -> None:
        """As `_call_thread`; where there is none the tasks that wait are given back."""
        if self._called:  # mostly, and this is called for each task
            return
        try:
            self._call_thread()
        except RuntimeError:
            # One that is at work might take these tasks, but perhaps in an hour.
            if tasks := self._flights.take_back(inf, self._held.will_return):
                self._held.no_thread_for(tasks)

    def _call_thread(self) -> None:
        """Have one more thread come, unless one is on its way: that one calls the next. Raises RuntimeError."""
        if self._called or not self._flights.wait(on_loop=False) or self._flights.running >= self._slots:
            return
        with self._lock:
            if self._called:
                return
            self._called = True
        try:
            self._world.threads.run(self._come)
        except RuntimeError:
            self._called = False
            raise

    def _call_loop(self) -> None:
        """Have the loop take what waits for it."""
        if self._coroutines is not None:
            self._coroutines.call()

    def serve(self, first: Callable[[], bool] | None = None) -> None:
        """Run what is ready on this thread, unless `first` says that it launched nothing. Blocks while handlers run."""
        me = threading.get_ident()
        self._serving.add(me)
        try:
            if first is not None and not first():
                return
            while (flight := self._flights.begin(self._now(), self._slots)) is not None:
                self._call()
                self._run(flight)
        finally:
            self._serving.discard(me)

    def _come(self) -> None:
        self._called = False
        self.serve()

    def _run(self, flight: Flight) -> None:
        """Run the handler and see to its outcome."""
        step, _, name, _ = self._steps[flight.task.step_slug]
        with doing(name):
            # In a context of its own: what a handler leaves in it is no business of the next one on this thread.
            landed = Context().run(self._handle, flight, step)
        self._landed()
        if self._coroutines is not None:
            self._coroutines.call()
        if landed and self._flights.wait(on_loop=False):
            self._outbox.flush_soon(self._soon)  # the next task may take its time
        elif landed:
            self._outbox.flush()

    def _handle(self, flight: Flight, step: StepDefinition) -> bool:
        """Call the handler and put its outcome where it will be written; False where nobody wants it any more."""
        with self._world.messages.processing(flight.task, flight.received) as say:
            if flight.called_off:  # the last moment before it begins
                return self._flights.land(flight, lambda: None)
            outcome, error = execute(step, flight.task, flight.deadline, flight.cancel_event, self._middleware)
            # Before the span ends, for an exporter may hang.
            landed = self._landings.land(flight, outcome, error)
            self._landings.tell(flight, landed, error, say)
        return landed is not None

    def _look(self) -> None:
        """On the timers' thread. Not by a message: the actor may wait in a claim, or stop."""
        now, waited = self._now(), list[Task]()
        for flight in self._flights.overdue(now):
            self._soon(partial(self._give_up, flight))
        if self._flights.wait(on_loop=False) and self._flights.running < self._slots:
            self._soon(self.serve)  # a thread that has landed its task may hang all the same, in a tracer or a log
        else:
            waited = self._flights.take_back(now - PATIENCE, self._held.will_return)
        waited += self._flights.take_back(now - PATIENCE, self._held.will_return, on_loop=True)
        if waited:
            self._ahead.unproven()
            self._soon(partial(self._held.give_back, waited))
        self._alarm.set(self._flights.next_due(now, PATIENCE))

    def _give_up(self, flight: Flight) -> None:
        """The task has failed, and whatever its handler still returns is ignored."""
        text = f"TimeoutError: the task has not ended within its timeout of {flight.timeout} s"
        outcome = failed(flight.task, text, "TimeoutError")
        if not self._flights.land(flight, partial(self._outbox.add, outcome), ended=False):
            return
        self._ahead.ended(flight.timeout)
        self._call()
        self._call_loop()
        self._hanging()
        self._landed()
        self._failing.log(outcome)
        self._outbox.flush()
