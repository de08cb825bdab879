"""The registration of one module as a transition table: (machine, message) → (machine, effects).

    pending ──attempt──▶ phase … phase ──all done──▶ succeeded
                           │ transient ▶ retrying ──timer, retry_now, database back──▶ next attempt
                           └ permanent ▶ failed_permanent

Each attempt and each timer carries the machine's `token`; whatever arrives with another one is stale and changes
nothing. `busy` is true from the start of a phase until its thread has ended, which for a hung phase is later than the
end of the attempt: no attempt begins while it lasts, so that a module never holds more than one thread. `rewiring` is
true from the loss of a succeeded module's worker until it has one again: until then no failure is permanent, for to a
worker that runs the schema's being away is transient as well. `troubled` is true while the worker of a module that had
succeeded can claim or record nothing: it is `retrying` in phase `worker` then, without an attempt, until that is over.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from pgflow_starter.core.backoff import Backoff
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass, Identity, ModuleError, ModuleState, ModuleStatus


class RunPhase(NamedTuple):
    """Effect: run the phase as it is planned and report with the token."""

    phase: Phase
    token: int


class CancelPhase(NamedTuple):
    """Effect: interrupt the running phase; it took too long."""


class Schedule(NamedTuple):
    """Effect: send a due message with the token after `delay` seconds."""

    delay: float
    token: int


class AttemptBegan(NamedTuple):
    """Effect: tell that an attempt began."""

    state: ModuleState


class AttemptEnded(NamedTuple):
    """Effect: tell how the attempt ended; `delay` seconds until the next where one is scheduled."""

    state: ModuleState
    delay: float | None = None


Effect = RunPhase | CancelPhase | Schedule | AttemptBegan | AttemptEnded


class Machine(NamedTuple):
    """Everything that a module's registration is, apart from the thread that runs a phase."""

    state: ModuleState
    phases: tuple[Phase, ...]
    token: int = 0
    failures: int = 0
    busy: bool = False
    another_asked: bool = False
    awaits_thread: bool = False
    outage_over: bool = False
    rewiring: bool = False
    troubled: bool = False

    @property
    def waiting(self) -> bool:
        """True between attempts: a timer is running, or the end of a hung phase is awaited."""
        return self.state.status is ModuleStatus.RETRYING and self.state.phase is None


Step = tuple[Machine, tuple[Effect, ...]]


def begin(m: Machine, now: datetime, first: Phase | None = None) -> Step:
    """Start an attempt at once, from phase `first` (default: the first); one more follows if one is running already."""
    if m.troubled:
        m = m._replace(state=replace(m.state, phase=None), troubled=False, rewiring=True)
    if m.state.phase is not None:
        return m._replace(another_asked=True), ()
    if m.busy:
        return _await_hung(m._replace(awaits_thread=True), now), ()
    phase = first or m.phases[0]
    state = replace(m.state, attempts=m.state.attempts + 1, phase=phase, next_attempt_at=None, updated_at=now)
    token = m.token + 1
    started = m._replace(
        state=state, token=token, busy=True, another_asked=False, awaits_thread=False, outage_over=False
    )
    return started, (AttemptBegan(state), RunPhase(phase, token))


def timer_fired(m: Machine, token: int, now: datetime) -> Step:
    """The retry timer fired."""
    if token != m.token or not m.waiting:
        return m, ()
    return begin(m, now)


def phase_done(m: Machine, token: int, identity: Identity | None, now: datetime) -> Step:
    """The running phase succeeded; `identity` is what it learned of the module, if it did."""
    if token != m.token or m.troubled:
        return m, ()
    if m.state.phase is None:
        return _thread_ended(m, now)
    if identity is not None:
        m = m._replace(state=replace(m.state, slug=identity.slug, type=identity.type))
    position = m.phases.index(m.state.phase) + 1
    if position < len(m.phases):
        phase = m.phases[position]
        state = replace(m.state, phase=phase, updated_at=now)
        return m._replace(state=state), (RunPhase(phase, token),)
    state = _well(m.state, now)
    succeeded = m._replace(state=state, failures=0, busy=False, rewiring=False)
    return _once_more(succeeded, (AttemptEnded(state),), now)


def phase_failed(m: Machine, token: int, error: ModuleError, backoff: Backoff, unit: float, now: datetime) -> Step:
    """The running phase raised."""
    if token != m.token or m.troubled:
        return m, ()
    if m.state.phase is None:
        return _thread_ended(m, now)
    return _fail(m._replace(busy=False), error, backoff, unit, now)


def phase_overdue(m: Machine, token: int, error: ModuleError, backoff: Backoff, unit: float, now: datetime) -> Step:
    """The running phase took longer than it may. Its thread counts as busy until it reports."""
    if token != m.token or m.state.phase is None or m.troubled:
        return m, ()
    failed, effects = _fail(m._replace(another_asked=False), error, backoff, unit, now)
    if m.another_asked:  # asked for meanwhile: as soon as the hung thread has ended
        failed = _await_hung(failed._replace(awaits_thread=True), now)
    return failed, (CancelPhase(), *effects)


def database_back(m: Machine, now: datetime) -> Step:
    """The database is reachable again: a waiting module need not sit out its timer.

    An attempt under way may be failing for the outage that is over, so its failure is followed by another at once.
    """
    if m.troubled:
        return m, ()
    if m.state.phase is not None:
        return m._replace(outage_over=True), ()
    return begin(m, now) if m.waiting else (m, ())


def worker_lost(m: Machine, error: ModuleError, now: datetime) -> Step:
    """The worker of a succeeded module is gone: wire it again, from the worker phase on."""
    m, _ = untroubled(m, now)
    succeeded = m.state.status is ModuleStatus.SUCCEEDED
    if m.state.phase is not None:
        return m._replace(another_asked=True, rewiring=m.rewiring or succeeded), ()
    if not succeeded:
        return m, ()
    lost = replace(_failing(m.state, error, now), status=ModuleStatus.RETRYING)
    return begin(m._replace(state=lost, rewiring=True), now, first=Phase.WORKER)


def worker_retired(m: Machine, error: ModuleError, now: datetime) -> Step:
    """The worker of a succeeded module was told to stop and has: nothing begins before somebody asks for it."""
    m, _ = untroubled(m, now)
    if m.state.status is not ModuleStatus.SUCCEEDED or m.state.phase is not None:
        return m, ()  # an attempt under way starts another worker
    ended = replace(_failing(m.state, error, now), status=ModuleStatus.FAILED_PERMANENT)
    return m._replace(state=ended), ()


def troubled(m: Machine, error: ModuleError, now: datetime) -> Step:
    """The worker of a succeeded module has been unable to claim or record anything for a while."""
    if not m.troubled and (m.state.status is not ModuleStatus.SUCCEEDED or m.state.phase is not None):
        return m, ()  # an attempt under way has its own result first
    if m.troubled and m.state.last_error == error:
        return m, ()
    state = replace(_failing(m.state, error, now), status=ModuleStatus.RETRYING, phase=Phase.WORKER)
    return m._replace(state=state, troubled=True), ()


def untroubled(m: Machine, now: datetime) -> Step:
    """What the worker tried went through."""
    if not m.troubled:
        return m, ()
    state = _well(m.state, now)
    return m._replace(state=state, troubled=False), ()


def _fail(m: Machine, error: ModuleError, backoff: Backoff, unit: float, now: datetime) -> Step:
    if m.rewiring:
        error = replace(error, error_class=ErrorClass.TRANSIENT)
    failed = replace(_failing(m.state, error, now), phase=None)
    if error.error_class is ErrorClass.PERMANENT:
        failed = replace(failed, status=ModuleStatus.FAILED_PERMANENT)
        return _once_more(m._replace(state=failed, failures=0), (AttemptEnded(failed),), now)
    delay = 0.0 if m.outage_over else backoff.delay(m.failures + 1, unit)
    failed = replace(failed, status=ModuleStatus.RETRYING, next_attempt_at=now + timedelta(seconds=delay))
    ended = m._replace(failures=m.failures + 1, state=failed)
    if m.another_asked:
        return _once_more(ended, (AttemptEnded(failed, 0.0),), now)
    return ended, (AttemptEnded(failed, delay), Schedule(delay, m.token))


def _well(state: ModuleState, now: datetime) -> ModuleState:
    succeeded = ModuleStatus.SUCCEEDED
    return replace(state, status=succeeded, phase=None, last_error=None, failing_since=None, updated_at=now)


def _failing(state: ModuleState, error: ModuleError, now: datetime) -> ModuleState:
    """With an error more, of those that no success came between."""
    return replace(state, last_error=error, failing_since=state.failing_since or error.at, updated_at=now)


def _once_more(m: Machine, effects: tuple[Effect, ...], now: datetime) -> Step:
    """Begin the attempt that was asked for while this one ran."""
    if not m.another_asked:
        return m, effects
    started, more = begin(m, now)
    return started, (*effects, *more)


def _thread_ended(m: Machine, now: datetime) -> Step:
    """The thread of a phase that had been given up is free at last."""
    freed = m._replace(busy=False)
    return begin(freed, now) if m.awaits_thread else (freed, ())


def _await_hung(m: Machine, now: datetime) -> Machine:
    error = m.state.last_error
    if error is None or not m.waiting or m.state.next_attempt_at is None:
        return m
    explained = replace(error, reason=f"{error.reason}; the next attempt begins when it has ended")
    return m._replace(state=replace(m.state, last_error=explained, next_attempt_at=None, updated_at=now))
