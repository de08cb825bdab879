"""`Flight`: one task under way, and `Flights`: all of one worker. They outlive the actor that started them.

A flight waits until it begins; it has ended when it is landed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from math import inf
from uuid import UUID

from pgflow_starter.clock import Clock
from pgflow_starter.core.task import Lazy, Task


class Flight:
    """One task, which may take `timeout` seconds from its beginning. The first to land it says what became of it.

    `launched`, `begun` and `deadline` are on the monotonic clock, the last two infinite before it has begun. It is
    `called_off` when its run has ended without it. One that is `on_loop` is not a thread's but the event loop's, and
    `interrupt` cancels its coroutine.
    """

    __slots__ = (
        "_landed",
        "begun",
        "called_off",
        "cancel_event",
        "deadline",
        "interrupt",
        "launched",
        "on_loop",
        "received",
        "task",
        "timeout",
    )

    def __init__(
        self,
        task: Task,
        timeout: float,
        launched: float = 0.0,
        received: object | None = None,
        on_loop: bool = False,
    ) -> None:
        self.task = task
        self.received = received
        self.timeout = timeout
        self.launched = launched
        self.on_loop = on_loop
        self.interrupt: Callable[[Flight], object] | None = None
        self.begun = self.deadline = inf
        self.called_off = False
        self.cancel_event = Lazy(threading.Event)
        self._landed = threading.Lock()

    @property
    def cancelled(self) -> threading.Event:
        """Set when it is given up, its run has ended, or its worker ends without it."""
        event: threading.Event = self.cancel_event.data()
        return event

    def cancel(self) -> None:
        """Say that it is `cancelled`, to its coroutine as well where it has one. Does not wait."""
        self.cancelled.set()
        if self.interrupt is not None:
            self.interrupt(self)

    @property
    def unwanted(self) -> bool:
        """Whether somebody has said what becomes of it, or that it is of no use: who begins it has to look."""
        return self.called_off or self._landed.locked()

    def land(self) -> bool:
        """True for the first caller. Thread-safe."""
        return self._landed.acquire(blocking=False)


class Flights:
    """Tasks that wait for a thread or the event loop, or run there, and those that were given up while they go on.

    Thread-safe.
    """

    def __init__(self) -> None:
        # Entered by the lock itself, in one call of C: a signal's exception may come right after the Python code of
        # Condition.__enter__ has taken it, and then it is held for ever (`nudge` is called by `stop`).
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._flying: dict[int, Flight] = {}
        self._waiting: list[deque[Flight]] = [deque(), deque()]  # for a thread, and for the loop
        self.running = 0
        """How many have begun and are under way."""
        self._closed = False
        self._hanging: dict[int, Task] = {}
        self._ended_runs: set[UUID] = set()

    @property
    def abandoned(self) -> int:
        """Those that were given up and whose handler has not ended."""
        return len(self._hanging)

    @property
    def hanging(self) -> list[Task]:
        """Their tasks."""
        with self._lock:
            return list(self._hanging.values())

    def __len__(self) -> int:
        return len(self._flying)

    @property
    def waiting(self) -> int:
        """How many have not begun."""
        return sum(map(len, self._waiting))

    def wait(self, *, on_loop: bool) -> bool:
        """Whether some wait for a thread, or for the loop."""
        return bool(self._waiting[on_loop])

    def add(self, *flights: Flight) -> bool:
        """They are under way, and wait to begin; False where none is to begin any more. Not those of ended runs."""
        with self._lock:
            if self._ended_runs:
                flights = tuple(flight for flight in flights if flight.task.run_id not in self._ended_runs)
            if not self._closed:
                self._flying.update((id(flight), flight) for flight in flights)
                for flight in flights:
                    self._waiting[flight.on_loop].append(flight)
            return not self._closed

    def begin(self, now: float, most: int, on_loop: bool = False) -> Flight | None:
        """The first of those that wait for a thread, or for the loop, which begins now.

        None where none does, or so many run.
        """
        with self._lock:
            line = self._waiting[on_loop]
            if not line or self.running >= most:
                return None
            flight = line.popleft()
            flight.begun, flight.deadline = now, now + flight.timeout
            self.running += 1
            return flight

    def call_off(self, run_ids: Collection[UUID], *, claiming: bool) -> bool:
        """The runs have ended: none of their tasks begins any more, and those that run are cancelled.

        Whether some have waited is returned. `claiming`: a claim is under way, which may bring more of them.
        """
        with self._lock:
            if claiming:
                self._ended_runs.update(run_ids)
            called_off = [flight for flight in self._flying.values() if flight.task.run_id in run_ids]
            waiting = {id(flight) for flight in called_off if flight.begun == inf}
            self._waiting = [deque(flight for flight in line if id(flight) not in waiting) for line in self._waiting]
            for flight in called_off:
                flight.called_off = True
                if id(flight) in waiting:
                    flight.land()
                    self._remove(flight, ended=True)
                else:
                    flight.cancel()
        return bool(waiting)

    def claim_begins(self) -> None:
        """It brings no task of a run that has ended before."""
        self._ended_runs.clear()

    def overdue(self, now: float) -> list[Flight]:
        """Those that run and whose time is up."""
        with self._lock:
            return [flight for flight in self._flying.values() if flight.deadline <= now]

    def next_due(self, now: float, patience: float) -> float:
        """When the next that runs is overdue, or the first that waits has done so for as long as that, or once more."""
        with self._lock:
            times = [flight.deadline for flight in self._flying.values() if flight.deadline > now]
            for line in filter(None, self._waiting):
                waited = line[0].launched + patience
                times.append(waited if waited > now else now + patience)
            return min(times, default=inf)

    def take_back(self, launched_by: float, say: Callable[[Task], object], on_loop: bool = False) -> list[Task]:
        """Land those that wait for a thread, or the loop, and were launched by then, as `land` does; their tasks."""
        taken: list[Task] = []
        with self._lock:
            line = self._waiting[on_loop]
            while line and line[0].launched <= launched_by:
                flight = line.popleft()
                flight.land()
                say(flight.task)
                self._remove(flight, ended=True)
                taken.append(flight.task)
        return taken

    def land(self, flight: Flight, say: Callable[[], object], *, ended: bool = True) -> bool:
        """Land it, and `say` what became of it, in one step; False where somebody did before.

        So nobody ever meets a task that has landed and of which nothing was said. One that has not `ended` counts as
        given up: its handler may go on.
        """
        with self._lock:
            if not flight.land():
                return False
            say()
            self._remove(flight, ended=ended)
            return True

    def surrender(self) -> list[Task]:
        """Land all that are still under way, for somebody else to say what becomes of them; none begins any more."""
        with self._lock:
            self._closed = True
            for line in self._waiting:
                line.clear()
            left = [flight for flight in self._flying.values() if flight.land()]
            for flight in list(self._flying.values()):
                self._remove(flight, ended=False)
            return [flight.task for flight in left]

    def reopen(self) -> None:
        """Tasks may begin again."""
        self._closed = False

    def _remove(self, flight: Flight, *, ended: bool) -> None:
        """Under the lock."""
        del self._flying[id(flight)]
        if flight.begun < inf:
            self.running -= 1
            if not ended:
                flight.cancel()
                self._hanging[id(flight)] = flight.task
        self._changed.notify_all()

    def ended_late(self, flight: Flight) -> None:
        """The handler of one that was given up has ended."""
        with self._lock:
            self._hanging.pop(id(flight), None)

    def all(self) -> list[Flight]:
        with self._lock:
            return list(self._flying.values())

    def pause(self, seconds: float) -> None:
        """Wait that long, or until the next landing or nudge."""
        with self._lock:
            self._changed.wait(seconds)

    def nudge(self) -> None:
        """Have `wait_empty` look at its deadline again."""
        with self._lock:
            self._changed.notify_all()

    def wait_empty(self, clock: Clock, deadline: Callable[[], float]) -> bool:
        """Wait until no task is under way; False at the deadline (monotonic), asked anew at each landing and nudge."""
        with self._lock:
            while self._flying:
                left = deadline() - clock.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True
