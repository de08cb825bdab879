"""`Waits`: threads that wait for runs. One of them asks the database, for all.

Whoever waits first leads: it looks when the first of them is due, tells the others, and hands the lead on when it
leaves; from one that shows no sign of life, whatever interrupted it, another takes it over. Looks come after 20 ms,
then ever more rarely, up to every 0.5 s; at once when a worker of this process has written something that may have
ended a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from uuid import UUID

from pgflow_starter.clock import Clock, one_wait
from pgflow_starter.errors import PgflowError, RunNotFoundError
from pgflow_starter.postgres.client.run import FINISHED, Run

FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5
SHORTEST_LOOK, LONGEST_LOOK = 0.05, 5.0
"""Seconds that one look may take."""

LIFE_SIGN = LONGEST_LOOK + 2 * LAST_PAUSE
"""Seconds without a word from who leads until another does."""

Look = Callable[[Collection[UUID], float], Mapping[UUID, str] | None]
"""The statuses of those runs that are there; None where that cannot be said within so many seconds."""


def deleted(run: Run) -> RunNotFoundError:
    """What is told to who waits for a run that is there no more."""
    return RunNotFoundError(f"run {run.id} of flow {run.flow_slug!r} was deleted")


class _Wait:
    __slots__ = ("due", "error", "looked", "pause", "run", "status", "stirs")

    def __init__(self, run: Run, due: float) -> None:
        self.run = run
        self.status = run.status
        self.due = due
        self.pause = FIRST_PAUSE
        self.looked = False
        self.error: PgflowError | None = None
        # A queue in C: what interrupts an Event's wait may leave its lock taken, and who would set it waiting for ever.
        self.stirs: SimpleQueue[None] = SimpleQueue()

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def seen(self, status: str | None) -> None:
        """What a look says; None: there is no such run."""
        if status is not None:
            self.status = status
            object.__setattr__(self.run, "committed", True)  # for its next wait, too
        elif self.run.committed:
            self.error = deleted(self.run)

    def stir(self) -> None:
        """Have it look up."""
        self.stirs.put(None)

    def rest(self, seconds: float) -> None:
        """Until it is stirred, or so many seconds have passed; on the main thread a part of them, see `one_wait`."""
        with suppress(Empty):
            self.stirs.get(timeout=one_wait(seconds))

    def calm(self) -> None:
        """Forget what stirred it."""
        with suppress(Empty):
            while True:
                self.stirs.get_nowait()


class Waits:
    """Of one client. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # A signal handler may wait on top of the thread that it interrupts.
        self._lock = threading.RLock()
        self._waits: list[_Wait] = []
        self._leader: _Wait | None = None
        self._alive_at = 0.0  # when the leader was last heard of
        self._closed: PgflowError | None = None

    def wait(self, run: Run, timeout: float | None, look: Look) -> str:
        """The run's status once it is finished.

        Raises TimeoutError after `timeout` seconds (None: never), RunNotFoundError when the run was deleted, what
        `close` was given, and a PgflowError that `look` raises, to all who wait.
        """
        if run.finished:
            return run.status
        now = self._clock.monotonic()
        deadline = inf if timeout is None else now + timeout
        mine = _Wait(run, min(run.seen_at + FIRST_PAUSE, deadline))
        try:
            with self._lock:
                self._waits.append(mine)
                if self._leader is not None:
                    self._leader.stir()  # it may not have meant to look so soon
            return self._await(mine, deadline, look)
        except TimeoutError:
            told = f"run {run.id} of flow {run.flow_slug!r} is still {mine.status} after {timeout:g} s"
            raise TimeoutError(told) from None
        finally:
            self._leave(mine)

    def may_have_ended(self, run_ids: Iterable[UUID]) -> None:
        """Look at these runs at once, where somebody waits for them. Does not wait itself."""
        if not self._waits:
            return
        ids = set(run_ids)
        with self._lock:
            stirred = [w for w in self._waits if w.run.id in ids]
            for wait in stirred:
                wait.due = -inf
            if stirred and self._leader is not None:
                self._leader.stir()

    def close(self, error: PgflowError) -> None:
        """Let all who wait, now or later, raise this."""
        self._closed = error
        with self._lock:
            for wait in self._waits:
                wait.stir()

    def _await(self, mine: _Wait, deadline: float, look: Look) -> str:
        while True:
            mine.calm()
            if self._closed is not None:
                raise self._closed
            if mine.error is not None:
                raise mine.error
            if mine.finished:
                return mine.status
            left = deadline - self._clock.monotonic()
            if left <= 0 and mine.looked:
                raise TimeoutError
            pause = self._pause_of(mine)
            if pause is None:
                mine.rest(min(max(left, SHORTEST_LOOK), LIFE_SIGN))
                # The leader may be in a look that takes longer than this one has.
                mine.looked = mine.looked or deadline <= self._clock.monotonic()
            elif pause > 0:
                mine.rest(min(pause, max(left, 0.0)))
            else:
                self._look_for_all(look, max(SHORTEST_LOOK, min(left, LONGEST_LOOK)))

    def _pause_of(self, mine: _Wait) -> float | None:
        """Seconds until the next look; None for who does not lead."""
        with self._lock:
            now = self._clock.monotonic()
            if mine not in self._waits:
                self._waits.append(mine)  # taken for dead
            if self._leader is None:
                self._leader = mine
            elif self._leader is not mine and now - self._alive_at >= LIFE_SIGN:
                if self._leader in self._waits:
                    self._waits.remove(self._leader)
                self._leader = mine
            if self._leader is not mine:
                return None
            self._alive_at = now
            return min(w.due for w in self._waits) - now

    def _look_for_all(self, look: Look, seconds: float) -> None:
        with self._lock:
            waits = list(self._waits)
            for wait in waits:
                # Not before the answer, unless a worker says so during the look.
                wait.due = self._clock.monotonic() + LIFE_SIGN
        found: Mapping[UUID, str] | PgflowError | None = None
        try:
            found = look({w.run.id for w in waits}, seconds)
        except PgflowError as error:
            found = error
        finally:  # a signal handler may end the look; the others go on
            self._tell(waits, found)

    def _tell(self, waits: list[_Wait], found: Mapping[UUID, str] | PgflowError | None) -> None:
        now = self._clock.monotonic()
        with self._lock:
            for wait in waits:
                wait.looked = True
                if isinstance(found, PgflowError):
                    wait.error = found
                elif found is not None:
                    wait.seen(found.get(wait.run.id))
                wait.pause = min(wait.pause * 2, LAST_PAUSE)
                wait.due = min(wait.due, now + wait.pause)
                if wait.error is not None or wait.finished:
                    wait.stir()

    def _leave(self, mine: _Wait) -> None:
        with self._lock:
            if mine in self._waits:
                self._waits.remove(mine)
            if self._leader is mine:
                self._leader = self._waits[0] if self._waits else None
                self._alive_at = self._clock.monotonic()
                if self._leader is not None:
                    self._leader.stir()
