"""`ModuleActor`: takes one module through its phases, and again until it has converged."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from pgflow_starter.core.classify import classify, error_type, reason
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass, ModuleError, ModuleState, ModuleStatus
from pgflow_starter.errors import DatabaseError, PhaseTimeoutError
from pgflow_starter.modules import machine
from pgflow_starter.modules.attempt_log import log_began, log_turned
from pgflow_starter.modules.cell import ModuleCell
from pgflow_starter.modules.messages import Begin, CellChanged, DatabaseBack, PhaseOverdue, PhaseReported, RetryDue
from pgflow_starter.modules.phase_job import PhaseJob
from pgflow_starter.modules.world import ModuleWorld
from pgflow_starter.supervision.dispatched import DispatchedActor
from pgflow_starter.threads.cache import AGAIN_INTERVAL, run_patiently


class ModuleActor(DispatchedActor):
    """One per module. Decides nothing: `machine` does, this carries out its effects."""

    registered = True

    def __init__(self, cell: ModuleCell, world: ModuleWorld) -> None:
        self._cell = cell
        self._world = world
        self._cancelled = False
        super().__init__(world.dispatcher)  # last: from here on it may be abandoned

    def on_start(self) -> None:
        self._cell.ref = self.actor_ref
        self.actor_ref.tell(Begin())

    def cancel(self) -> None:
        self._cancelled = True  # a successor would find on the cell what it does not judge any more
        job = self._cell.job
        if job is not None and not job.done:
            _cancel_job(job, self._world)

    def on_receive(self, message: Any) -> None:
        if self._cancelled or self._world.shutdown.begun:
            return  # what the end cuts short is no failed attempt, and nothing begins any more
        now = self._world.clock.now()
        m = self._cell.machine
        match message:
            case Begin():
                self._resume()
            case PhaseReported(job):
                if job is self._cell.job:
                    self._reported(job)
            case PhaseOverdue(job):
                if job is self._cell.job and not job.done:
                    self._overdue(job)
            case RetryDue(token):
                self._apply(machine.timer_fired(m, token, now))
            case CellChanged():
                self._heed_cell()
            case DatabaseBack():
                self._apply(machine.database_back(m, now))
                self._heed_trouble()
            case _:
                super().on_receive(message)

    def _resume(self) -> None:
        """Begin; or, after a crash, take up what the last incarnation left: nothing of it was in its head alone."""
        m, job, now = self._cell.machine, self._cell.job, self._world.clock.now()
        if m.state.attempts == 0:
            self._apply(machine.begin(m, now))
        elif (
            m.state.phase is not None
            and not m.troubled
            and not (job is not None and (job.token, job.phase) == (m.token, m.state.phase))
        ):
            self._run_phase(m.state.phase, m.token)
        elif m.busy and job is not None:
            if job.done:
                self._reported(job)
            else:
                job.watch()
        if self._cell.machine.waiting:
            at = self._cell.machine.state.next_attempt_at
            self._schedule((at - now).total_seconds() if at is not None else 0.0, self._cell.machine.token)
        self._heed_cell()

    def _heed_cell(self) -> None:
        """Do what was asked for, and judge what became of the worker."""
        if self._cell.retry_wanted:
            self._cell.retry_wanted = False
            self._apply(machine.begin(self._cell.machine, self._world.clock.now()))
        self._heed_retired_worker()  # first: one that has left is not wired again because it died of it
        self._heed_lost_worker()
        self._heed_trouble()

    def _heed_lost_worker(self) -> None:
        while self._cell.worker_deaths:
            now = self._world.clock.now()
            text = f"the worker died and is started again: {self._cell.worker_deaths.pop(0)}"
            lost = ModuleError(ErrorClass.TRANSIENT, Phase.WORKER, self._world.redact(text), "WorkerLost", now)
            step = machine.worker_lost(self._cell.machine, lost, now)
            if step[0].state is not self._cell.machine.state:
                log_turned(self._cell, replace(self._cell.machine.state, status=ModuleStatus.RETRYING, last_error=lost))
            self._apply(step)

    def _heed_retired_worker(self) -> None:
        why = self._cell.worker_retired_why
        if why:
            self._cell.worker_retired_why = ""  # only what was read: it may be set on another thread at any moment
            now = self._world.clock.now()
            error = ModuleError(ErrorClass.PERMANENT, Phase.WORKER, why, "WorkerDeprecated", now)
            self._apply_and_log(machine.worker_retired(self._cell.machine, error, now))

    def _heed_trouble(self) -> None:
        self._apply_and_log(self._judged(self._cell.machine))

    def _apply_and_log(self, step: machine.Step) -> None:
        """For what turns the status without an attempt, which would log it."""
        before = self._cell.machine.state.status
        self._apply(step)
        if self._cell.machine.state.status is not before:
            log_turned(self._cell, self._cell.machine.state)

    def _judged(self, m: machine.Machine) -> machine.Step:
        """What the lasting trouble of its worker, or the end of it, makes of the module."""
        world, now = self._world, self._world.clock.now()
        if world.away():  # an outage is no trouble, and ends none
            return m, ()
        trouble = world.trouble_of(m.state.slug, not m.troubled)
        if trouble is None:
            return machine.untroubled(m, now)
        text, kind = world.redact(trouble.reason), trouble.error_type or str(trouble.kind)
        error = ModuleError(ErrorClass.TRANSIENT, Phase.WORKER, text, kind, trouble.since)
        return machine.troubled(m, error, now)

    def _reported(self, job: PhaseJob) -> None:
        now = self._world.clock.now()
        if job.error is None:
            m, effects = machine.phase_done(self._cell.machine, job.token, job.identity, now)
            # Not ready for a moment in between: that all is in place ends no trouble.
            m, more = self._judged(m)
            self._apply((m, (*effects, *more)))
        else:
            failure = self._failure(job.error, job.phase, now)
            m, world = self._cell.machine, self._world
            self._apply(machine.phase_failed(m, job.token, failure, world.backoff, world.draw_unit(), now))

    def _overdue(self, job: PhaseJob) -> None:
        m, world, now = self._cell.machine, self._world, self._world.clock.now()
        text = f"phase {job.phase} has not ended within {world.phase_timeout:g} s"
        failure = self._failure(PhaseTimeoutError(text), job.phase, now)
        self._apply(machine.phase_overdue(m, job.token, failure, world.backoff, world.draw_unit(), now))

    def _failure(self, error: BaseException, phase: Phase, now: datetime) -> ModuleError:
        text = self._world.redact(reason(error))
        return ModuleError(classify(error, phase), phase, text, error_type(error), now)

    def _apply(self, step: machine.Step) -> None:
        m, effects = step
        # Published first: a thread that is told of an effect finds the state that it belongs to.
        self._world.board.publish(self._cell, m)
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: machine.Effect) -> None:
        world, cell = self._world, self._cell
        match effect:
            case machine.AttemptBegan(state):
                log_began(state)
                asked, cell.asked = cell.asked, None
                cell.attempt = world.observer.attempt(state, cell.attempt, asked)
            case machine.AttemptEnded(state, delay):
                log_turned(cell, state, delay, quiet=not self._tells(state))
                if cell.attempt is not None:
                    cell.attempt.ended(state, delay)
            case machine.RunPhase(phase, token):
                self._run_phase(phase, token)
            case machine.CancelPhase():
                if cell.job is not None:
                    _cancel_job(cell.job, world)
            case machine.Schedule(delay, token):
                self._schedule(delay, token)

    def _tells(self, state: ModuleState) -> bool:
        """Whether the end of an attempt is for this module's log, and is no outage, nor the beginning of one."""
        cell = self._cell
        if state.last_error is None:
            cell.breaks.succeeded()
            return True
        error = None if cell.job is None else cell.job.error
        lost = isinstance(error, DatabaseError) and error.connection_lost
        return cell.breaks.note_failure(lost=lost, away=self._world.away())

    def _schedule(self, delay: float, token: int) -> None:
        cell = self._cell
        self._world.timers.after(delay, lambda: cell.tell(RetryDue(token)))

    def _run_phase(self, phase: Phase, token: int) -> None:
        world, cell = self._world, self._cell
        job = PhaseJob(cell, phase, token, phases=world.phases, timers=world.timers, timeout=world.phase_timeout)
        cell.job = job
        try:
            job.start(world.threads, world.lane, world.batches.enter)
        except RuntimeError as error:
            job.report_no_thread(error)
        except BaseException as error:
            job.report(error)


def _cancel_job(job: PhaseJob, world: ModuleWorld) -> None:
    """On a thread where that may block, as soon as there is one. What waits behind the job in the lane goes on."""
    try:
        interrupt = job.begin_cancel()
    except RuntimeError:  # no thread for the next in the lane, which would otherwise wait for ever
        world.timers.after(AGAIN_INTERVAL, partial(_cancel_job, job, world))
        return
    if interrupt is not None:
        run_patiently(world.threads, world.timers, interrupt)
