"""What this process says of itself: the database, modules, troubles, workers that died, schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC

from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import (
    MissedTicks,
    ModuleState,
    ModuleStatus,
    ScheduleResult,
    ScheduleState,
    WorkerState,
)
from pgflow_starter.core.symptoms import SCHEDULE_LATE, TICKS_MISSED, Symptom, symptom_of, symptom_of_error
from pgflow_starter.core.text import one_line
from pgflow_starter.core.trouble import HELD, Trouble, TroubleKind, TroubleScope
from pgflow_starter.web.problems.problem import DENIED, Problem, Seen, Severity, lasting, named

GRANT = "As the owner of the database: `pgflow-starter db grant ROLE --apply`, with this process's role"

LOCKED = symptom_of(TroubleKind.LOCKED)

UNLOCK = (
    "End the session that holds the lock, or wait for it: the documentation has the query that finds it. Work goes on"
    " by itself."
)

LATE = 60.0
"""Seconds after its time at which a tick is late: timers are armed anew each minute."""


def database(seen: Seen) -> Iterator[Problem]:
    """The database, where it is away."""
    outage = seen.status.outage
    if outage is not None:
        yield Problem(
            "database_away",
            "bad",
            "The database is away",
            one_line(outage.reason),
            outage.since,
            "See that the server runs and that the connection string leads to it; all goes on once it answers.",
            None,
            symptom_of("OperationalError").place,
        )


def unseen(seen: Seen) -> Iterator[Problem]:
    """That the database is there, and says nothing to the page."""
    if seen.unseen is not None and seen.status.outage is None:
        denied, locked = "permission denied" in seen.unseen, HELD in seen.unseen
        if denied:
            about, then = DENIED, f"{GRANT}."
        elif locked:
            about, then = LOCKED, UNLOCK
        else:
            about = symptom_of("PhaseTimeoutError")
            then = "It is asked again by itself; where this lasts, see what the server is busy with."
        what, untold = "the database", "Failing runs and waiting messages"
        if seen.sees_runs:
            what, untold = "the queues", "Waiting messages"
        elif seen.sees_queues:
            what, untold = "the runs", "Failing runs"
        yield Problem(
            "missing_grant" if denied else "not_seen",
            "bad" if denied else "warn",
            f"{'A right is missing: this' if denied else 'This'} page cannot look into {what}",
            f"{one_line(seen.unseen)}. {untold} are not told meanwhile.",
            seen.unseen_since,
            then,
            None,
            about.place,
        )


def modules(seen: Seen) -> Iterator[Problem]:
    """Those that have failed with the same error are one problem. Nothing of those that wait for the database, nor of
    those that retry for nothing but the trouble of their worker: `troubles` tells it."""
    stuck = {w.slug for w in seen.workers if w.trouble is not None and w.trouble.scope is TroubleScope.ALL}
    alike: dict[tuple[ModuleStatus, str], list[ModuleState]] = {}
    for module in seen.status.modules:
        error, failed = module.last_error, module.status is ModuleStatus.FAILED_PERMANENT
        told = seen.status.outage is not None or (module.phase is Phase.WORKER and module.slug in stuck)
        if error is not None and (failed or (module.status is ModuleStatus.RETRYING and not told)):
            alike.setdefault((module.status, error.error_type), []).append(module)
    for (state, _), those in sorted(alike.items(), key=lambda item: not _is_for_good(item[0][0])):
        error = those[0].last_error
        assert error is not None
        about = symptom_of_error(error)
        for_good, denied = _is_for_good(state), about is DENIED
        if denied:
            then = f"{GRANT}, then retry now."
        elif for_good:
            then = "Mend what the text names, then restart the process, or retry now; until then it runs nothing here."
        else:
            then = "It is tried again by itself; mend what the text names, and retry now for an attempt at once."
        yield Problem(
            "missing_grant" if denied else "module_failed" if for_good else "module_retrying",
            "bad" if for_good or denied else "warn",
            f"{'A right is missing: module' if denied else 'Module'} {named([m.module for m in those])}"
            f" {'failed for good' if for_good else 'cannot register yet'}",
            one_line(error.reason),
            min((m.failing_since for m in those if m.failing_since is not None), default=error.at),
            then,
            {"module": those[0].module},
            about.place,
        )


def _is_for_good(status: ModuleStatus) -> bool:
    return status is ModuleStatus.FAILED_PERMANENT


def troubles(workers: Iterable[WorkerState]) -> Iterator[Problem]:
    """What keeps workers from their work; what is alike is one problem."""
    alike: dict[tuple[str, str, TroubleScope], list[tuple[str, Trouble]]] = {}
    for worker in workers:
        trouble = worker.trouble
        if trouble is not None:
            alike.setdefault((trouble.kind, trouble.error_type, trouble.scope), []).append((worker.slug, trouble))
    for (kind, error_type, scope), those in sorted(alike.items(), key=lambda item: item[0][2] is not TroubleScope.ALL):
        slug, trouble = those[0]
        about, whole = symptom_of(error_type), scope is TroubleScope.ALL
        if about not in (DENIED, LOCKED):
            about = symptom_of(kind)
        denied, locked = about is DENIED, about is LOCKED
        if denied:
            then = f"{GRANT}; work goes on by itself."
        elif locked:
            then = UNLOCK
        else:
            then = "Do what the text says; the trouble ends by itself when its cause is gone."
        yield Problem(
            "missing_grant" if denied else "trouble",
            "bad" if denied or whole else "warn",
            f"{'A right is missing: worker' if denied else 'Worker'} of {named([s for s, _ in those])}"
            f" can do {'no work' if whole else 'not all of its work'} ({TroubleKind.LOCKED if locked else kind})",
            one_line(trouble.reason),
            min(t.since for _, t in those),
            then,
            {"module": slug},
            about.place,
        )


def lost(seen: Seen) -> Iterator[Problem]:
    """Workers that died."""
    gone = [worker.slug for worker in seen.workers if not worker.alive and not worker.draining]
    if gone and seen.status.outage is None:
        yield Problem(
            "worker_lost",
            "bad",
            f"Worker of {named(gone)} died",
            "Its module registers it again.",
            None,
            "Look into the log for why it died; where it does not come back, restart the process.",
            {"module": gone[0]},
            symptom_of("WorkerLost").place,
        )


def schedules(seen: Seen) -> Iterator[Problem]:
    """Ticks that failed, are late, or were missed: of each schedule the worst of it. Nothing of those that wait for the
    database."""
    for each in seen.status.schedules if seen.status.outage is None else ():
        overdue = 0.0 if each.next_at is None else (seen.now - each.next_at).total_seconds()
        kind, since, about = "schedule_late", each.last_tick, SCHEDULE_LATE
        severity: Severity = "bad"
        if each.last_result is ScheduleResult.FAILED:
            kind, title, detail = "schedule_failed", "could not start its run", each.last_error or ""
            since = each.failing_since or since
            about, then = _failed(each)
        elif each.starting is not None:
            waits, since, about = (seen.now - each.starting).total_seconds(), each.starting, LOCKED
            severity, title = "bad" if waits >= LATE else "warn", "is late"
            detail = (
                f"The run that was due {lasting(waits)} ago is being started, and the database has not answered yet."
            )
            then = "See who holds a lock in the database: the documentation has the query that finds the session."
        elif overdue >= LATE:
            title, detail, since = "is late", f"It was due {lasting(overdue)} ago.", each.next_at
            then = "See that the database answers and the process has CPU to run on, else restart it."
        elif each.missed is not None:
            kind, severity, about, since = "schedule_missed", "warn", TICKS_MISSED, each.missed.first
            title = f"missed {each.missed.count:,} tick{'' if each.missed.count == 1 else 's'}"
            detail = f"{_due(each.missed)}, and nobody has started a run: {each.missed.reason}."
            then = f"What was missed is not started any more: {_made_up_for(each)}."
        elif (each.last_late or 0.0) >= LATE:
            severity, title = "warn", "was late"
            detail = f"It was started {lasting(each.last_late or 0.0)} after its time."
            then = "See whether the process was away, or short of CPU, at that time; the run has begun since."
        else:
            continue
        denied = about is DENIED
        yield Problem(
            "missing_grant" if denied else kind,
            severity,
            f"{'A right is missing: schedule' if denied else 'Schedule'} {each.name} {title}",
            one_line(detail),
            since,
            then,
            None if denied else {"flow": each.slug},
            about.place,
        )


def _failed(schedule: ScheduleState) -> tuple[Symptom, str]:
    """Which section is about the failure, and what to do."""
    about = symptom_of(schedule.last_error_type or "")
    if about is DENIED:
        then = GRANT
    elif about is LOCKED:
        then = "End the session that holds the lock, or wait for it: the documentation has the query that finds it"
    else:
        about, then = SCHEDULE_LATE, "Mend what the text names"
    missed = schedule.missed
    left = missed is not None and schedule.last_tick is not None and missed.last >= schedule.last_tick
    more = (
        f"this tick is not tried again, {_made_up_for(schedule)}"
        if left
        else "what may still be started is tried again"
    )
    return about, f"{then}; {more}."


def _due(missed: MissedTicks) -> str:
    first, last = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for at in (missed.first, missed.last))
    return f"Due at {first} UTC" if first == last else f"Due from {first} to {last} UTC"


def _made_up_for(schedule: ScheduleState) -> str:
    return f"do it by hand where it has to be done (`pgflow-starter flow start {schedule.slug} INPUT`)"
