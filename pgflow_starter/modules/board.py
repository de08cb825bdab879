"""The board: every module's state, where the crash of an actor cannot reach it, read without asking anyone.

Writers (the module actors) take a lock; readers take none: an answer must not wait for a thread that was put off the
processor while it held one, and a signal handler may ask on top of a call that it interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pgflow_starter.clock import Clock, one_wait
from pgflow_starter.core.modules import ModuleSpec, module_identity
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import FastLaneState, ModuleState, ModuleStatus, ScheduleState, StarterStatus
from pgflow_starter.errors import NotReadyError
from pgflow_starter.modules.cell import ModuleCell
from pgflow_starter.modules.machine import Machine
from pgflow_starter.modules.messages import CellChanged

if TYPE_CHECKING:
    from pgflow_starter.ports import Reachability


class Board:
    """All cells of a starter, and its published status. Thread-safe."""

    def __init__(
        self,
        specs: Sequence[ModuleSpec],
        phases: tuple[Phase, ...],
        clock: Clock,
        reachability: Reachability,
        on_ready: Callable[[Sequence[ModuleState], float], None],
        fast_lane: Callable[[], FastLaneState | None] = lambda: None,
        schedules: Callable[[], tuple[ScheduleState, ...]] = tuple,
    ) -> None:
        self._clock = clock
        self._reachability = reachability
        self._fast_lane = fast_lane
        self._schedules = schedules
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._started_at = now = clock.now()
        self._turned = clock.monotonic()
        self._ready_at: datetime | None = None
        self._states = [
            ModuleState(s.name, None, s.type, ModuleStatus.PENDING, 0, None, None, None, now) for s in specs
        ]
        self.cells = tuple(
            ModuleCell(spec, Machine(state, phases)) for spec, state in zip(specs, self._states, strict=True)
        )
        self._by_identity = {module_identity(cell.spec.module): cell for cell in self.cells}
        # the first listed counts, so it is put in last
        self._by_name = {cell.spec.name: cell for cell in reversed(self.cells)}
        self._version = 0
        self._cached: tuple[int, StarterStatus] | None = None
        self._waiters: dict[int, SimpleQueue[None]] = {}
        self._closed: Callable[[], Exception] | None = None
        self._open_modules = len(self._states)
        if not specs:
            self._ready_at = self._started_at

    def announce_if_empty(self) -> None:
        """With no modules the starter is ready from the start, and says so."""
        if not self.cells:
            self._on_ready((), 0.0)

    def publish(self, cell: ModuleCell, machine: Machine) -> None:
        """Put up a module's new state; wakes the threads that wait when it makes the starter ready."""
        key = cell.spec.key
        turned_ready: float | None = None
        with self._lock:
            before, after = cell.machine.state, machine.state
            cell.machine = machine
            if after is before:
                return
            self._open_modules += before.status.terminal - after.status.terminal
            if self._open_modules == 0 and not before.status.terminal:
                self._ready_at = self._ready_at or after.updated_at
                turned_ready = self._clock.monotonic() - self._turned
            elif before.status.terminal and not after.status.terminal and self._open_modules == 1:
                self._turned = self._clock.monotonic()
            self._states[key] = after
            self._version += 1
        if turned_ready is not None:
            for waiter in list(self._waiters.values()):
                waiter.put(None)
            self._on_ready(tuple(self._states), turned_ready)

    def status(self) -> StarterStatus:
        """All modules now. Never waits."""
        version, outage, fast_lane = self._version, self._reachability.outage, self._fast_lane()
        schedules = self._schedules()
        cached = self._cached
        if cached is not None and cached[0] == version:
            status = cached[1]
            if (status.outage, status.fast_lane, status.schedules) == (outage, fast_lane, schedules):
                return status
        states = tuple(self._states)
        status = StarterStatus(
            ready=all(s.status.terminal for s in states),
            healthy=not states or any(s.status is ModuleStatus.SUCCEEDED for s in states),
            started_at=self._started_at,
            ready_at=self._ready_at,
            modules=states,
            outage=outage,
            fast_lane=fast_lane,
            schedules=schedules,
        )
        self._cached = (version, status)
        return status

    def find(self, module: object) -> ModuleCell | None:
        """The module's cell: by identity, then by name, then by slug, the first listed. Never waits."""
        found = self._by_identity.get(module_identity(module))
        if found is not None or not isinstance(module, str):
            return found
        named = self._by_name.get(module)
        return named or next((c for c in self.cells if self._states[c.spec.key].slug == module), None)

    def state_of(self, module: object) -> ModuleState | None:
        """The module's state, None when it is not one of ours. Never waits."""
        cell = self.find(module)
        return None if cell is None else self._states[cell.spec.key]

    def retry_now(self, module: object, asked: object | None = None) -> None:
        """Ask the module's actor for an attempt at once; nothing for an unknown module. Never waits.

        `asked` is what the observer said of the caller; of several that ask for one attempt the last counts.
        """
        cell = self.find(module)
        if cell is not None:
            cell.asked = asked
            cell.retry_wanted = True
            cell.tell(CellChanged())

    def await_ready(self, timeout: float | None) -> None:
        """Wait until every module is terminal. Raises NotReadyError after `timeout` seconds, what `close` was given."""
        waiter: SimpleQueue[None] = SimpleQueue()
        self._waiters[id(waiter)] = waiter
        try:
            deadline = None if timeout is None else self._clock.monotonic() + timeout
            while True:
                self.check_open()
                if self.status().ready:
                    return
                left = None if deadline is None else deadline - self._clock.monotonic()
                if left is not None and left <= 0:
                    raise NotReadyError(self._not_ready_text(timeout))
                try:
                    waiter.get(timeout=one_wait(left))
                except Empty:
                    continue
        finally:
            self._waiters.pop(id(waiter), None)

    @property
    def waiting(self) -> int:
        """How many calls of `await_ready` wait."""
        return len(self._waiters)

    def check_open(self) -> None:
        """Raise what `close` was given, if it was called."""
        if self._closed is not None:
            raise self._closed()

    def close(self, error: Callable[[], Exception]) -> None:
        """Wake all threads that wait; they raise what `error` makes. The first call counts."""
        if self._closed is None:
            self._closed = error
        for waiter in list(self._waiters.values()):
            waiter.put(None)

    def _not_ready_text(self, timeout: float | None) -> str:
        now = self._clock.now()
        open_ = [s for s in self._states if not s.status.terminal]
        shown = "; ".join(_described(s, now) for s in open_)
        return f"not ready after {timeout:g} s: {len(open_)} of {len(self._states)} modules are not terminal: {shown}"


def _described(state: ModuleState, now: datetime) -> str:
    parts = [f"{state.module}: {state.status}"]
    if state.phase is not None:
        parts.append(f"in phase {state.phase}")
    parts.append(f"attempt {state.attempts}")
    if state.last_error is not None:
        error = state.last_error
        parts.append(f"phase {error.phase} failed: {error.reason} [{error.error_type}]")
    if state.next_attempt_at is not None:
        seconds = max(0.0, (state.next_attempt_at - now).total_seconds())
        parts.append(f"next attempt in {seconds:.1f} s")
    return ", ".join(parts)
