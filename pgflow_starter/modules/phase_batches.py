"""`Crowd`: phases that are carried out for many modules in one go."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from itertools import islice

from pgflow_starter.errors import TransientError
from pgflow_starter.modules.phase_job import PhaseJob
from pgflow_starter.ports import Phases
from pgflow_starter.threads.lane import Lane, LaneCall
from pgflow_starter.threads.scope import PhaseScope

MOST = 64
"""Modules at a time: those behind would wait too long."""

WIDTH = 2
"""Batches at a time: one of them waits for the database while the other is worked upon here."""


class _Batch:
    __slots__ = ("left", "place", "scope", "staying")

    def __init__(self) -> None:
        self.place: LaneCall
        self.scope = PhaseScope()
        self.staying: set[PhaseJob] = set()
        self.left = False


class Crowd:
    """Whoever comes while others are served waits, and is then served with all who wait. Thread-safe.

    What cannot be done for all in one go is done for each alone, in the lane. A batch that takes too long delays nobody
    but those in it.
    """

    def __init__(self, phases: Phases, lane: Lane) -> None:
        self._phases = phases
        self._lane = lane
        self._lock = threading.Lock()
        self._waiting: dict[PhaseJob, None] = {}
        self._batches: dict[PhaseJob, _Batch] = {}
        self._serving = 0

    def enter(self, job: PhaseJob) -> None:
        """Carry it out when there is room. Raises RuntimeError when there is no thread; the job is dropped then."""
        job.in_line(partial(self._leave, job))
        with self._lock:
            self._waiting[job] = None
            try:
                self._pump()
            except RuntimeError:
                del self._waiting[job]
                raise

    def _leave(self, job: PhaseJob) -> bool:
        with self._lock:
            if job in self._waiting:
                del self._waiting[job]
                return False
            batch = self._batches.get(job)
            if batch is None:  # it is done, or alone by now
                self._pump()
                return True
            batch.staying.discard(job)
            forsaken = None if batch.staying else batch.scope
            if not batch.left:
                batch.left = True
                self._serving -= 1
            self._pump()
        self._lane.leave(batch.place)
        if forsaken is not None:  # by all: one that has to stop is no reason for the others to fail
            job.forsaken(forsaken)
        return True

    def _pump(self) -> None:
        """Under the lock."""
        if self._waiting and self._serving < WIDTH:
            batch = _Batch()
            batch.place = LaneCall(partial(self._serve, batch))
            self._lane.enter(batch.place)
            self._serving += 1

    def _serve(self, batch: _Batch) -> None:
        while jobs := self._next(batch):
            try:
                self._carry_out(jobs, batch.scope)
            except BaseException as error:
                for job in jobs:
                    job.report(error)
            finally:
                with self._lock:
                    for job in jobs:
                        del self._batches[job]

    def _next(self, batch: _Batch) -> Sequence[PhaseJob]:
        with self._lock:
            if batch.left:
                return ()
            jobs = tuple(islice(self._waiting, MOST))
            batch.scope, batch.staying = PhaseScope(), set(jobs)
            for job in jobs:
                del self._waiting[job]
                self._batches[job] = batch
            if not jobs:
                self._serving -= 1
        return jobs

    def _carry_out(self, jobs: Sequence[PhaseJob], scope: PhaseScope) -> None:
        for job in jobs:
            job.begin()
        done = self._phases.run_together([job.cell.spec for job in jobs], scope)
        for job, is_done in zip(jobs, done, strict=True):
            if is_done:
                job.report(None)
            elif scope.cancelled:
                job.report(TransientError(f"phase {job.phase} was cancelled"))
            else:
                try:
                    job.alone(self._lane)
                except RuntimeError as error:
                    job.refused(error)
