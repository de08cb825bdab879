"""`OutcomeTroubles`: what writing outcomes says of a worker's troubles."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import inf
from uuid import UUID

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.core.task import Ignored, Outcome
from pgflow_starter.core.trouble import TroubleKind, TroubleScope, with_remedy
from pgflow_starter.errors import MISSING_STATES, DatabaseError
from pgflow_starter.worker.parked_runs import LAST_PAUSE, ParkedRun
from pgflow_starter.worker.troubles import Troubles

ALL_REFUSED = 3
"""Runs of which not one outcome can be written until that counts as trouble of scope all."""

_OF_ALL = "42"  # rights, and what is not there: it is not this run's fault, by SQLSTATE class


class OutcomeTroubles:
    """One worker's. Thread-safe, but for `count`."""

    def __init__(self, troubles: Troubles, clock: Clock) -> None:
        self._troubles = troubles
        self._clock = clock
        self._written_at = -inf
        self._void: set[TaskKey] = set()
        self._voided: TaskKey | None = None
        self._came_again: TaskKey | None = None

    def count(self, done: Sequence[Outcome], ignored: Sequence[tuple[Outcome, Ignored]]) -> None:
        """These were written: with an effect or without. A task whose outcome has none comes again."""
        void = {outcome.task.key for outcome, why in ignored if why.without_effect}
        if len(done) > len(void):
            self._written_at, self._void, self._voided = self._clock.monotonic(), set(), None
        self._voided = next(iter(void & self._void), self._voided)
        self._void |= void

    def came_again(self, tasks: Collection[TaskKey]) -> None:
        """These tasks were held as started once more, although their outcomes were written."""
        self._came_again = next(iter(tasks), None)

    def wait(self, count: int, error: DatabaseError, began: float) -> None:
        """So many outcomes wait, for a call that began then failed."""
        kind = error_type(error)
        said = with_remedy(f"{count} outcomes wait to be written: {reason_for_logs(error)}", kind)
        self._troubles.refuse(TroubleKind.UNWRITTEN, said, kind, began)

    def go_through(self) -> None:
        """The database takes outcomes."""
        self._end_unwritten(TroubleScope.ALL)

    def _end_unwritten(self, scope: TroubleScope) -> None:
        known = self._troubles.of(TroubleKind.UNWRITTEN)
        if known is not None and known.scope is scope:
            self._troubles.end(TroubleKind.UNWRITTEN)

    def none_to_judge(self) -> bool:
        """Whether there is nothing to say where no run is parked."""
        return self._troubles.current is None and (self._voided or self._came_again) is None

    def judge(self, parked: Mapping[UUID, ParkedRun]) -> None:
        """What is parked, and what has been written."""
        kept = {run: rest for run, rest in parked.items() if not rest.reason and rest.pause >= LAST_PAUSE}
        if kept:
            first, oldest = min(kept.items(), key=lambda item: item[1].since)
            said = f"the outcomes of {len(kept)} runs wait, of run {first} first: somebody has it locked (see pg_locks)"
            self._troubles.begin(TroubleKind.UNWRITTEN, said, began=oldest.since)
        else:
            self._end_unwritten(TroubleScope.SOME)
        void, refused = self._voided or self._came_again, [rest for rest in parked.values() if rest.reason]
        if void is not None:
            run, step, _ = void
            said = f"recording the outcome of step {step} of run {run} has no effect: its task stays started"
            alone = self._voided is not None
            self._troubles.judge(TroubleKind.OUTCOMES_REFUSED, said, every=alone, moved_at=self._written_at)
            return
        if not refused:
            self._troubles.end(TroubleKind.OUTCOMES_REFUSED)
            return
        # Those since which nothing went through: perhaps nothing does.
        stuck = [rest for rest in refused if rest.since > self._written_at]
        of_all = [rest for rest in stuck if rest.error_type.startswith(_OF_ALL)]
        every = of_all or (stuck if len(stuck) >= ALL_REFUSED else [])
        oldest = min(every or refused, key=lambda rest: rest.since)
        said = with_remedy(
            f"outcomes of {len(refused)} runs cannot be written, first of {oldest.reason}", oldest.error_type
        )
        claims = self._troubles.of(TroubleKind.CLAIMS_REFUSED)
        if claims is not None and claims.scope is TroubleScope.SOME and oldest.error_type in MISSING_STATES:
            # What is gone is one step's queue, into which those of the steps before it send.
            every, said = [], f"{said}; {claims.reason}"
        self._troubles.judge(
            TroubleKind.OUTCOMES_REFUSED,
            said,
            every=bool(every),
            moved_at=self._written_at,
            error_type=oldest.error_type,
            began=oldest.since,
        )
