"""`Prober`: the thread that finds out whether the database can be reached, by connecting to it.

    unknown ──answers──▶ up ──somebody doubts it: probe──▶ up
       └──fails──▶ away ◀───────────fails────────────┘      away ──answers──▶ up

Left to itself a pool finds out by connecting again and again, ever less often: that is what makes recoveries late.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import classify, error_type
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass, Outage
from pgflow_starter.core.symptoms import see
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.threads.own_thread import Died, OwnThread

logger = logging.getLogger("pgflow_starter.database")

CROWDED_INTERVAL = 1.0
"""Seconds between probes while there are good connections, and the server gives no more."""

REFUSED_INTERVAL = 2.0
"""Seconds between probes that a server refuses for good, where nobody asks: a person may mend it at any time."""

ANSWERED_PAUSE = 0.05
"""Seconds from a probe that was answered to the next, should connections keep breaking."""

AGAIN_INTERVAL = 1.0
"""Seconds to the next probe, where another look was wanted that nobody waits for."""


class Prober:
    """Probes when asked to, and while the database is away for as long as anybody wants it. Thread-safe.

    On its thread it calls `probe`, which raises nothing, and then `up`, or `away` with the error: False from that means
    that it is no outage. `ended` is called there in the end, when it was closed. `look_again` says after an answer that
    there is more to be seen soon.
    """

    closed = False
    """Whether it probes no more."""
    hurried = False
    """Whether nobody is to wait any more."""

    def __init__(
        self,
        clock: Clock,
        pace: Pace,
        *,
        probe: Callable[[], DatabaseError | None],
        up: Callable[[], object],
        away: Callable[[DatabaseError], bool],
        ended: Callable[[], object],
        look_again: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._pace = pace
        self._probe = probe
        self._up = up
        self._report_away = away
        self._ended = ended
        self._look_again = look_again
        # Entered by the lock itself: see TimeLimits.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._suspect = True
        self._doubters: list[Callable[[], object]] = []
        self._watchers: list[Callable[[], object]] = []
        self._asked = self._doubts = self._rounds = 0
        hangs = "the connection probe hangs, in resolving a host name perhaps"
        self._thread = OwnThread("pgflow-database", self._run, hangs=hangs)
        self.outage: Outage | None = None
        self.error: DatabaseError | None = None

    def revive(self, died: Died | None = None) -> None:
        """As `Threaded.revive`. Idempotent."""
        with self._lock:
            self._thread.revive(died, needed=not self.closed)

    def watch(self, back: Callable[[], object]) -> None:
        """Call `back`, on the thread, each time the database is reachable again."""
        self._watchers.append(back)

    def doubt(self, answered: Callable[[], object] | None = None) -> None:
        """Probe as soon as the pace allows; `answered` is called, on the thread, when it is known."""
        with self._lock:
            if answered is not None:
                self._doubters.append(answered)
            self._suspect = True
            self._doubts += 1
            self._changed.notify_all()

    def await_answer(self, patience: float, unless: Callable[[], object]) -> None:
        """Wait for the next answer, up to `patience` seconds; not where `unless` is true, or nobody is to wait."""
        with self._lock:
            self._asked += 1
            self._changed.notify_all()
            came = self._rounds
            self._changed.wait_for(
                lambda: unless() or self.closed or self.hurried or self._rounds > came,
                min(patience, threading.TIMEOUT_MAX),
            )

    def closed_within(self, seconds: float) -> bool:
        """Wait that long; at once True when it is closed."""
        with self._lock:
            return self._changed.wait_for(lambda: self.closed, seconds)

    def hurry(self) -> None:
        """Nobody is to wait any more for a database that is away."""
        with self._lock:
            self.hurried = True
            self._changed.notify_all()

    def close(self, *, wait: bool = True) -> None:
        """End the thread, also in the midst of connecting; `wait` for that up to a second. Idempotent."""
        with self._lock:
            self.closed = True
            self._changed.notify_all()
        if wait:
            self._thread.close()

    def _run(self) -> None:
        try:
            while self._await_reason():
                self._look()
        except BaseException:
            with self._lock:
                self._suspect = True
            raise
        self._ended()

    def _await_reason(self) -> bool:
        with self._lock:
            self._changed.wait_for(lambda: self._suspect or self.closed)
            return not self.closed

    def _look(self) -> None:
        if self.closed_within(self._pace.reserve()):
            return
        self._pace.begin()
        with self._lock:
            self._suspect = False
            asked, doubts = self._asked, self._doubts
            doubters, self._doubters = self._doubters, []
        error = self._probe()
        no_outage = self._judge(error)
        for answered in doubters:
            _tell(answered, "that the probe was answered")
        if error is None:
            self._pace.give_back()
            self.closed_within(ANSWERED_PAUSE)
            if self._look_again():
                self._idle(lambda: self._asked > asked or self._doubts > doubts, AGAIN_INTERVAL)
                with self._lock:
                    self._suspect = True
        elif no_outage:
            self._idle(lambda: self._asked > asked, CROWDED_INTERVAL)
        # A wrong password stays wrong until somebody mends it.
        elif classify(error, Phase.WORKER) is ErrorClass.PERMANENT:
            self._idle(lambda: self._asked > asked or self._doubts > doubts, REFUSED_INTERVAL)

    def _judge(self, error: DatabaseError | None) -> bool:
        """Let everybody know; whether this is no outage."""
        no_outage = False
        if error is None:
            self._up()
        else:
            no_outage = not self.closed and not self._report_away(error)
        if self.closed:
            return False
        with self._lock:
            was = self.outage
            self._suspect = self._suspect or error is not None
            if not no_outage:
                self.error = error
                since = self._clock.now() if was is None else was.since
                self.outage = None if error is None else Outage(since, str(error))
                self._rounds += 1
                self._changed.notify_all()
        if not no_outage:
            self._tell(was, error)
        return no_outage

    def _tell(self, was: Outage | None, error: DatabaseError | None) -> None:
        if error is not None and was is None:
            logger.warning("the database is away: %s%s", error, see(error_type(error)))
        elif error is None and was is not None:
            logger.warning("the database is back")
            for back in self._watchers:
                _tell(back, "that the database is back")

    def _idle(self, wanted: Callable[[], bool], seconds: float) -> None:
        """Until somebody wants the next look, or it is time for it."""
        with self._lock:
            self._changed.wait_for(lambda: self.closed or wanted(), seconds)


def _tell(whom: Callable[[], object], what: str) -> None:
    """What one of them makes of it is no business of the others'."""
    try:
        whom()
    except Exception:
        logger.exception("telling %s raised", what)
