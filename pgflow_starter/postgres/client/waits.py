"""`Waits`: threads and coroutines that wait for runs. One thread asks the database, for all.

Whoever waits first leads: it looks when the first of them is due, tells the others, and hands the lead on when it
leaves; from one that shows no sign of life, whatever interrupted it, another takes it over. Looks come after 20 ms,
then ever more rarely, up to every 0.5 s; at once when a worker of this process has written something that may have
ended a run. Coroutines have no thread: while there are any, one leads or is there to lead, and they are called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from uuid import UUID

from pgflow_starter.clock import Clock
from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.client.run import RunFacts
from pgflow_starter.postgres.client.waiter import FIRST_PAUSE, LAST_PAUSE, Looker, Wait, going_on

SHORTEST_LOOK, LONGEST_LOOK = 0.05, 5.0
"""Seconds that one look may take."""

LIFE_SIGN = LONGEST_LOOK + 2 * LAST_PAUSE
"""Seconds without a word from who leads until another does."""

Look = Callable[[Collection[UUID], float], Mapping[UUID, str] | None]
"""The statuses of those runs that are there; None where that cannot be said within so many seconds."""


class Waits:
    """Of one client. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # A signal handler may wait on top of the thread that it interrupts.
        self._lock = threading.RLock()
        self._waits: list[Wait] = []
        self._leader: Looker | None = None
        self._for_called: Looker | None = None  # on its thread, while somebody is to be called
        self._alive_at = 0.0  # when the leader was last heard of
        self._closed: PgflowError | None = None

    def wait(self, run: RunFacts, timeout: float | None, look: Look) -> str:
        """The run's status once it is finished.

        Raises TimeoutError after `timeout` seconds (None: never), RunNotFoundError when the run was deleted, what
        `close` was given, and a PgflowError that `look` raises, to all who wait.
        """
        if run.finished:
            return run.status
        now = self._clock.monotonic()
        deadline = inf if timeout is None else now + timeout
        mine = Wait(run, min(run.seen_at + FIRST_PAUSE, deadline))
        try:
            self._enter(mine)
            return self._await(mine, deadline, look)
        except TimeoutError:
            raise going_on(run, mine.status, timeout) from None
        finally:
            self.leave(mine)

    def watch(
        self,
        run: RunFacts,
        called: Callable[[], object],
        gone: Callable[[], bool],
        look: Look,
        run_on_thread: Callable[[Callable[[], object]], object],
    ) -> Wait:
        """Have `called`, from any thread, quick, when the wait has ended or met an error; then it must `leave`.

        One that says that it is `gone`, from any thread, quick, has left.
        `run_on_thread` is given what looks for all who are called, where nobody does. Raises what it raises, and what
        `close` was given.
        """
        mine = Wait(run, run.seen_at + FIRST_PAUSE, called, gone)
        with self._lock:
            if self._closed is not None:
                raise self._closed
            if self._for_called is None:
                looker = Looker()
                run_on_thread(lambda: self._look_for_called(looker, look))
                self._for_called = looker
            self._enter(mine)
        return mine

    def _enter(self, mine: Wait) -> None:
        with self._lock:
            self._waits.append(mine)
            if self._leader is not None:
                self._leader.stir()  # it may not have meant to look so soon

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

    @property
    def closed(self) -> PgflowError | None:
        """What `close` was given."""
        return self._closed

    def _look_for_called(self, mine: Looker, look: Look) -> None:
        """On a thread of its own: lead, where nobody else does, while somebody is to be called."""
        try:
            while self._is_for_called(mine):
                pause = self._pause_of(mine)
                if pause is None or pause > 0:
                    mine.rest(LIFE_SIGN if pause is None else pause)
                else:
                    self._look_for_all(look, LONGEST_LOOK)
                mine.calm()
        except BaseException as error:
            self._fail_called(PgflowError(f"waiting for runs failed: {type(error).__name__}: {error}"))
            raise
        finally:
            self.leave(mine)

    def _is_for_called(self, mine: Looker) -> bool:
        """Whether somebody is to be called; else it is so no more, and the next who waits brings another."""
        with self._lock:
            self._waits[:] = [w for w in self._waits if not w.gone()]
            if self._closed is None and any(w.called is not None for w in self._waits):
                return True
            if self._for_called is mine:
                self._for_called = None
            return False

    def _fail_called(self, error: PgflowError) -> None:
        with self._lock:
            self._for_called = None
            for wait in self._waits:
                if wait.called is not None:
                    wait.error = error
                    wait.stir()

    def _await(self, mine: Wait, deadline: float, look: Look) -> str:
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

    def _pause_of(self, mine: Looker) -> float | None:
        """Seconds until the next look; None for who does not lead."""
        with self._lock:
            now = self._clock.monotonic()
            if isinstance(mine, Wait) and mine not in self._waits:
                self._waits.append(mine)  # taken for dead
            if self._leader is None:
                self._leader = mine
            elif self._leader is not mine and now - self._alive_at >= LIFE_SIGN:
                if isinstance(self._leader, Wait) and self._leader in self._waits:
                    self._waits.remove(self._leader)
                self._leader = mine
            if self._leader is not mine:
                return None
            self._alive_at = now
            return min((w.due for w in self._waits), default=now + LIFE_SIGN) - now

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

    def _tell(self, waits: list[Wait], found: Mapping[UUID, str] | PgflowError | None) -> None:
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
                if wait.error is not None or wait.finished or wait.over:
                    wait.stir()

    def leave(self, mine: Looker) -> None:
        """It waits no more: where it led, somebody else does. Idempotent."""
        with self._lock:
            if isinstance(mine, Wait) and mine in self._waits:
                self._waits.remove(mine)
                if self._for_called is not None and mine.called is not None and not self._waits:
                    self._for_called.stir()  # it may go
            if self._leader is mine:
                self._leader = next((w for w in self._waits if w.called is None), self._for_called)
                self._alive_at = self._clock.monotonic()
                if self._leader is not None:
                    self._leader.stir()
