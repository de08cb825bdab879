"""`PhaseBatches`: phases that are carried out for many modules in one go."""

from __future__ import annotations

from functools import partial

from pgflow_starter.errors import TransientError
from pgflow_starter.modules.phase_job import PhaseJob
from pgflow_starter.modules.phase_plan import Phases
from pgflow_starter.threads.gatherer import Batch, Gatherer
from pgflow_starter.threads.lane import Lane


class PhaseBatches:
    """A job that comes while others are carried out waits, and is then carried out with all that wait. Thread-safe.

    What cannot be done for all in one go is done for each alone, in the lane. A batch that takes too long delays no job
    but its own.
    """

    def __init__(self, phases: Phases, lane: Lane) -> None:
        self._phases = phases
        self._lane = lane
        self.gatherer: Gatherer[PhaseJob] = Gatherer(lane, self._serve)

    def enter(self, job: PhaseJob) -> None:
        """Carry it out when there is room. Raises RuntimeError when there is no thread; the job is dropped then."""
        job.set_leave(partial(self.gatherer.leave, job, job.interrupt_with))
        self.gatherer.enter(job)

    def _serve(self, batch: Batch[PhaseJob]) -> None:
        try:
            self._carry_out(batch)
        except BaseException as error:
            for job in batch.items:
                job.report(error)

    def _carry_out(self, batch: Batch[PhaseJob]) -> None:
        for job in batch.items:
            job.begin()
        done = self._phases.run_together([job.cell.spec for job in batch.items], batch.scope)
        for job, is_done in zip(batch.items, done, strict=True):
            if is_done:
                job.report(None)
            elif batch.scope.cancelled:
                job.report(TransientError(f"phase {job.phase} was cancelled"))
            else:
                try:
                    job.alone(self._lane)
                except RuntimeError as error:
                    job.report_no_thread(error)
