"""`Flight`: one task under way, and `Flights`: all of one worker. They outlive the actor that started them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pgflow_starter.clock import Clock, Timer
from pgflow_starter.core.task import Task


class Flight:
    """One task on its thread. Whoever lands it first says what became of it; the other's word is ignored."""

    __slots__ = ("_landed", "cancelled", "deadline", "received", "task", "timer")

    def __init__(self, task: Task, deadline: float, received: object | None = None) -> None:
        self.task = task
        self.received = received
        self.deadline = deadline
        self.cancelled = threading.Event()
        self.timer: Timer | None = None
        self._landed = threading.Lock()

    def land(self) -> bool:
        """True for the first caller. Thread-safe."""
        return self._landed.acquire(blocking=False)


class Flights:
    """Tasks under way, those counted that were given up but whose thread has not ended. Thread-safe."""

    def __init__(self) -> None:
        # Entered by the lock itself, in one call of C: a signal's exception may come right after the Python code of
        # Condition.__enter__ has taken it, and then it is held for ever (`nudge` is called by `stop`).
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._flying: dict[int, Flight] = {}
        self._closed = False
        self._hanging: dict[int, Task] = {}

    @property
    def abandoned(self) -> int:
        """Those that were given up and whose thread has not ended."""
        return len(self._hanging)

    @property
    def hanging(self) -> list[Task]:
        """Their tasks."""
        with self._lock:
            return list(self._hanging.values())

    def __len__(self) -> int:
        return len(self._flying)

    def add(self, flight: Flight) -> bool:
        """It is under way; False where none is to begin any more."""
        with self._lock:
            if not self._closed:
                self._flying[id(flight)] = flight
            return not self._closed

    def land(self, flight: Flight, say: Callable[[], object], *, ended: bool = True) -> bool:
        """Land it, and `say` what became of it, in one step; False where somebody did before.

        So nobody ever meets a task that has landed and of which nothing was said. One that has not `ended` counts as
        given up: its thread may go on.
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
            left = [flight for flight in self._flying.values() if flight.land()]
            for flight in list(self._flying.values()):
                self._remove(flight, ended=False)
            return [flight.task for flight in left]

    def reopen(self) -> None:
        """Tasks may begin again."""
        self._closed = False

    def _remove(self, flight: Flight, *, ended: bool) -> None:
        """Under the lock."""
        self._flying.pop(id(flight), None)
        if not ended:
            flight.cancelled.set()
            self._hanging[id(flight)] = flight.task
        self._changed.notify_all()

    def ended_late(self, flight: Flight) -> None:
        """The thread of one that was given up has ended."""
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
