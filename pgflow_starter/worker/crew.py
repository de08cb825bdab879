"""`Crew`: the threads that run a worker's claimed tasks, so many at a time. One that has done a task takes the next.

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
from uuid import UUID

from pgflow_starter.core.definition import FlowDefinition, StepDefinition
from pgflow_starter.core.snooze import Snooze
from pgflow_starter.core.task import OutcomeKind, Task
from pgflow_starter.threads.cache import doing, run_patiently
from pgflow_starter.worker.ahead import Ahead
from pgflow_starter.worker.alarm import Alarm
from pgflow_starter.worker.execution import execute, failed
from pgflow_starter.worker.failure_log import FailureLog
from pgflow_starter.worker.flights import Flight, Flights
from pgflow_starter.worker.held_tasks import HeldTasks
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.world import WorkerWorld

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
        self._steps = {s.slug: (s, definition.timeout_of(s), f"{definition.slug}.{s.slug}") for s in definition.steps}
        self._slots = slots
        self._ahead = ahead
        self._flights = flights
        self._outbox = outbox
        self._held = held
        self._world = world
        self._now = world.clock.monotonic
        self._middleware = world.middleware
        self._soon = partial(run_patiently, world.threads, world.timers)
        self._failing = failing
        self._hanging = hanging
        self._landed = landed
        self._alarm = Alarm(world.clock, world.timers, self._look)
        self._lock = threading.Lock()
        self._called = False
        self._serving: set[int] = set()

    def launch(self, tasks: Sequence[Task], received: object | None = None) -> None:
        """Run each task's handler on a thread, as soon as there is a slot; its time counts from then. Does not wait.

        On a thread that serves, that one takes them first. `received` is what the observer said of their claim.
        """
        if not tasks:
            return
        now = self._now()
        flights = [Flight(task, self._steps[task.step_slug][1], now, received) for task in tasks]
        if not self._flights.add(*flights):
            for task in tasks:
                self._held.will_return(task)
            self._held.no_thread_for(list(tasks))
            return
        # None of them is overdue before.
        crowded = len(self._flights) > self._slots
        self._alarm.set(now + (PATIENCE if crowded else min(flight.timeout for flight in flights)))
        if threading.get_ident() not in self._serving:
            self._call()

    def claim_begins(self) -> None:
        """What it brings will be launched, but for what is called off from now on."""
        self._flights.claim_begins()

    def call_off(self, run_ids: Collection[UUID], *, claiming: bool) -> None:
        """As `Flights.call_off`. Does not wait."""
        if self._flights.call_off(run_ids, claiming=claiming):
            self._landed()

    def _call(self) -> None:
        """Have one more thread come, unless one is on its way: that one calls the next."""
        if self._called or not self._flights.waiting or self._flights.running >= self._slots:
            return
        with self._lock:
            if self._called:
                return
            self._called = True
        try:
            self._world.threads.run(self._come)
        except RuntimeError:
            self._called = False
            # One that is at work might take these tasks, but perhaps in an hour.
            if tasks := self._flights.take_back(inf, self._held.will_return):
                self._held.no_thread_for(tasks)

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
        step, _, name = self._steps[flight.task.step_slug]
        with doing(name):
            # In a context of its own: what a handler leaves in it is no business of the next one on this thread.
            landed = Context().run(self._handle, flight, step)
        self._landed()
        if landed and self._flights.waiting:
            self._outbox.flush_soon(self._soon)  # the next task may take its time
        elif landed:
            self._outbox.flush()

    def _handle(self, flight: Flight, step: StepDefinition) -> bool:
        """Call the handler and put its outcome where it will be written; False where nobody wants it any more."""
        landed = False
        with self._world.messages.processing(flight.task, flight.received) as say:
            if flight.called_off:  # the last moment before it begins
                return self._flights.land(flight, lambda: None)
            outcome, error = execute(step, flight.task, flight.deadline, flight.cancel_event, self._middleware)
            ended = self._now()
            self._ahead.ended(ended - flight.begun)
            if isinstance(error, Snooze) and outcome.kind is OutcomeKind.SNOOZED:
                outcome = outcome._replace(until=ended + error.seconds)
            # Before the span ends, for an exporter may hang.
            landed = self._flights.land(flight, partial(self._outbox.add, outcome))
            if landed:
                # Of one that nobody wants any more the log says that it was ignored.
                say(outcome, (self._failing.of if flight.called_off else self._failing.log)(outcome, error))
            else:
                self._ended_late(flight)
                given_up = failed(flight.task, "given up before it ended", "CancelledError")
                say(given_up, self._failing.of(given_up))
        return landed

    def _ended_late(self, flight: Flight) -> None:
        self._flights.ended_late(flight)
        self._hanging()

    def _look(self) -> None:
        """On the timers' thread. Not by a message: the actor may wait in a claim, or stop."""
        now = self._now()
        for flight in self._flights.overdue(now):
            self._soon(partial(self._give_up, flight))
        if self._flights.waiting and self._flights.running < self._slots:
            self._soon(self.serve)  # a thread that has landed its task may hang all the same, in a tracer or a log
        elif waited := self._flights.take_back(now - PATIENCE, self._held.will_return):
            self._ahead.unproven()
            self._soon(partial(self._held.give_back, waited))
        self._alarm.set(self._flights.next_due(now, PATIENCE))

    def _give_up(self, flight: Flight) -> None:
        """The task has failed, and whatever its thread still returns is ignored."""
        text = f"TimeoutError: the task has not ended within its timeout of {flight.timeout} s"
        outcome = failed(flight.task, text, "TimeoutError")
        if not self._flights.land(flight, partial(self._outbox.add, outcome), ended=False):
            return
        self._ahead.ended(flight.timeout)
        self._call()
        self._hanging()
        self._landed()
        self._failing.log(outcome)
        self._outbox.flush()
