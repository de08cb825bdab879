"""`Landings`: what becomes of tasks whose handlers have ended, and telling of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pgflow_starter.clock import Clock
from pgflow_starter.core.failure import RecordOutcome
from pgflow_starter.core.snooze import Snooze
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.worker.ahead import Ahead
from pgflow_starter.worker.execution import failed
from pgflow_starter.worker.failure_log import FailureLog
from pgflow_starter.worker.flights import Flight, Flights
from pgflow_starter.worker.outbox import Outbox


class Landings:
    """One worker's. Thread-safe.

    `hanging()` is called when a handler has ended whose task was given up before.
    """

    def __init__(
        self,
        flights: Flights,
        outbox: Outbox,
        ahead: Ahead,
        failing: FailureLog,
        clock: Clock,
        hanging: Callable[[], object],
    ) -> None:
        self._flights = flights
        self._outbox = outbox
        self._ahead = ahead
        self._failing = failing
        self._now = clock.monotonic
        self._hanging = hanging

    def land(self, flight: Flight, outcome: Outcome, error: BaseException | None) -> Outcome | None:
        """Put what its handler came to where it will be written; None where nobody wants it any more. Does not wait."""
        ended = self._now()
        self._ahead.ended(ended - flight.begun)
        if isinstance(error, Snooze) and outcome.kind is OutcomeKind.SNOOZED:
            outcome = outcome._replace(until=ended + error.seconds)
        if self._flights.land(flight, partial(self._outbox.add, outcome)):
            return outcome
        self._flights.ended_late(flight)
        return None

    def tell(self, flight: Flight, outcome: Outcome | None, error: BaseException | None, say: RecordOutcome) -> None:
        """Say so, in the log as well; None of one that was given up. A log's handler may take its time."""
        if outcome is not None:
            # Of one that nobody wants any more the log says that it was ignored.
            say(outcome, (self._failing.of if flight.called_off else self._failing.log)(outcome, error))
        else:
            self._hanging()
            given_up = failed(flight.task, "given up before it ended", "CancelledError")
            say(given_up, self._failing.of(given_up))
