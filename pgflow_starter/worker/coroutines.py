"""`Coroutines`: a worker's tasks whose handlers are asynchronous. They begin, run and land on the event loop's thread.

No thread is held for one that waits, and none is woken for one that has nothing to say when it ends: the loop takes the
next itself, and only what may block goes elsewhere: writing outcomes, logs, the ends of spans.

What waits for a loop that is blocked has not begun: it is given back like what waits for a slot, and its time does not
count.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pgflow_starter.core.definition import StepDefinition
from pgflow_starter.core.failure import RecordOutcome
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.threads.cache import call_logged, run_patiently
from pgflow_starter.threads.loop_watch import on_behalf_of
from pgflow_starter.worker.execution import execute_async
from pgflow_starter.worker.flights import Flight, Flights
from pgflow_starter.worker.held_tasks import HeldTasks
from pgflow_starter.worker.landings import Landings
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.world import WorkerWorld

if TYPE_CHECKING:
    from pgflow_starter.ports import HandlerObserver

logger = logging.getLogger("pgflow_starter.workers")


class _UnderWay(NamedTuple):
    """A task on the loop, and who watches it."""

    running: asyncio.Task[None]
    context: Context
    observer: HandlerObserver
    say: RecordOutcome


class Coroutines:
    """One worker's, of which `slots` may run, together with what its threads run. Thread-safe where others use it.

    `steps` are by slug, each with its name for people. `call_thread()` has a thread come for what waits for one;
    `landed()` is called when a slot is free.
    """

    def __init__(
        self,
        steps: Mapping[str, tuple[StepDefinition, str]],
        slots: int,
        flights: Flights,
        outbox: Outbox,
        held: HeldTasks,
        world: WorkerWorld,
        landings: Landings,
        *,
        call_thread: Callable[[], object],
        landed: Callable[[], object],
    ) -> None:
        self._steps = steps
        self._slots = slots
        self._flights = flights
        self._outbox = outbox
        self._held = held
        self._world = world
        self._now = world.clock.monotonic
        self._soon = partial(run_patiently, world.threads, world.timers)
        self._landings = landings
        self._call_thread = call_thread
        self._landed = landed
        self._called = False
        self._under_way: dict[Flight, _UnderWay] = {}
        self._to_tell = deque[Callable[[], object]]()
        self._telling = False
        world.event_loop.watch(self._lose_all)

    def call(self) -> None:
        """Have the loop take what waits for it, unless it is about to. Does not wait."""
        if self._called or not self._flights.wait(on_loop=True) or self._flights.running >= self._slots:
            return
        self._called = True
        try:
            self._world.event_loop.call(self._come)
        except RuntimeError:  # no thread for it: what waits is given back when it has waited for long
            self._called = False

    def _come(self) -> None:
        self._called = False
        self._serve()

    def _serve(self) -> None:
        """Begin what waits for the loop, as far as there are slots."""
        while (flight := self._flights.begin(self._now(), self._slots, on_loop=True)) is not None:
            self._begin(flight)

    def _begin(self, flight: Flight) -> None:
        step, name = self._steps[flight.task.step_slug]
        context = Context()  # its own; tasks and threads that it makes get copies
        context.run(on_behalf_of.set, name)
        observer = self._world.messages.processing(flight.task, flight.received)
        say = context.run(observer.__enter__)
        running = asyncio.Task(self._run(flight, step), loop=asyncio.get_running_loop(), name=name, context=context)
        self._under_way[flight] = _UnderWay(running, context, observer, say)
        flight.interrupt = self._interrupt_soon

    async def _run(self, flight: Flight, step: StepDefinition) -> None:
        outcome: tuple[Outcome, BaseException | None] | None = None
        if not flight.unwanted:  # the last moment before it begins
            cancelled, middleware = flight.cancel_event, self._world.middleware
            outcome = await execute_async(step, flight.task, flight.deadline, cancelled, middleware)
        if flight not in self._under_way:  # the loop has died, and this is its end
            return
        if outcome is None:
            self._drop(flight)
        else:
            self._land(flight, *outcome)
        self._landed()
        self._serve()
        if self._flights.wait(on_loop=False):
            with suppress(RuntimeError):  # no thread: as where the loop has none
                self._call_thread()

    def _drop(self, flight: Flight) -> None:
        way = self._under_way.pop(flight)
        way.observer.ended()
        if self._flights.land(flight, lambda: None):
            self._tell_soon(partial(way.observer.__exit__, None, None, None))
        else:
            self._flights.ended_late(flight)
            self._tell_soon(partial(self._tell, flight, way, None, None))

    def _land(self, flight: Flight, outcome: Outcome, error: BaseException | None) -> None:
        way = self._under_way.pop(flight)
        way.observer.ended()
        landed = self._landings.land(flight, outcome, error)
        if landed is not None:
            self._outbox.flush_soon(self._soon)
        if landed is None or landed.kind is not OutcomeKind.COMPLETED or way.observer.heard:
            self._tell_soon(partial(self._tell, flight, way, landed, error))

    def _interrupt_soon(self, flight: Flight) -> None:
        """On any thread."""
        if (way := self._under_way.get(flight)) is not None:
            with suppress(RuntimeError):  # the loop is closed
                way.running.get_loop().call_soon_threadsafe(self._interrupt, flight)

    def _interrupt(self, flight: Flight) -> None:
        if (way := self._under_way.get(flight)) is not None and not way.running.cancel():
            way.context.run(self._drop, flight)  # somebody else's code has cancelled it before its first step

    def _tell(self, flight: Flight, way: _UnderWay, outcome: Outcome | None, error: BaseException | None) -> None:
        self._landings.tell(flight, outcome, error, way.say)
        way.observer.__exit__(None, None, None)

    def _tell_soon(self, call: Callable[[], object]) -> None:
        self._to_tell.append(call)
        self._bring_teller()

    def _bring_teller(self) -> None:
        if not self._telling:
            self._telling = True
            self._soon(self._tell_all)

    def _tell_all(self) -> None:
        """On a thread, which has another one come for what is left: a log or a tracer may hang."""
        self._telling = False
        with suppress(IndexError):
            while True:
                call = self._to_tell.popleft()
                if self._to_tell:
                    self._bring_teller()
                call_logged(call, logger)

    def _lose_all(self) -> None:
        """The loop has died: what ran there is given back, and what waits is for the next one."""
        tasks: list[Task] = []
        for flight, way in list(self._under_way.items()):
            flight.cancel()
            if self._flights.land(flight, partial(self._held.will_return, flight.task)):
                tasks.append(flight.task)
            way.context.run(self._drop, flight)
        if tasks:
            self._soon(partial(self._held.give_back, tasks))
        self._called = False
        self.call()
