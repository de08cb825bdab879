"""What the database says: steps that fail, steps that are tried again, queues that do not move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from pgflow_starter.core.symptoms import QUEUE_STILL, RUNS_FAIL
from pgflow_starter.core.views import Ended, Failing, StepFailures, StepRetries, WorkerRow
from pgflow_starter.web.problems.problem import DONE_WITHIN, Problem, Seen, lasting

WAITS = 60.0
"""Seconds from which on a message that nobody takes is a problem: polls are 5 s apart, notified ones 30 s at most."""

WAITS_ALONE = 20.0
"""The same, where no worker lives: as long as a process takes that is started anew."""

SILENT = 20.0
"""Seconds for which a worker was not heard of while others were, two beats: it may be dead, and counts as alive yet."""

WAITS_LONG = 300.0
"""Seconds from which on it is a bad one, although a worker lives, unless the queue moves."""

OFTEN = 3
"""Failed runs of an hour that are no accident any more."""

ENOUGH = 20
"""Runs of which a share is told."""


def failures(seen: Seen) -> Iterator[Problem]:
    """Steps by which runs failed. Where only the last failures were looked at, nobody knows since when: how many there
    were in which time tells how bad it is."""
    failing = seen.failing
    ended = {each.flow_slug: each for each in failing.ended}
    for each in sorted(failing.failures, key=lambda failures: -failures.failed):
        what = f"Step {_step(each)} fails" if each.step else f"Runs of {each.flow_slug} fail"
        within = lasting((seen.now - each.since).total_seconds()) if failing.more and each.since else "hour"
        yield Problem(
            "step_failing",
            "bad" if each.failed >= OFTEN else "warn",
            f"{what}: {_share(each, ended.get(each.flow_slug), within)}",
            each.error or "",
            None if failing.more else each.since,
            "Open the last one for its traceback; once it is mended, `pgflow-starter runs rerun --since 1h --flow "
            f"{each.flow_slug}` does them again.",
            {"run": str(each.last)},
            RUNS_FAIL.place,
        )


def _step(each: StepFailures | StepRetries) -> str | None:
    """A job's one step has the job's name."""
    return each.step if each.step == each.flow_slug else f"{each.step} of {each.flow_slug}"


def _share(each: StepFailures, ended: Ended | None, within: str) -> str:
    """How many, and of how many, where these are enough for a share of them to say something."""
    runs = f"{each.failed} run{'s' if each.failed > 1 else ''} in the last {within}"
    if ended is None or ended.ended < ENOUGH or not ended.failed:
        return runs
    return f"{runs}; of the flow's last {ended.ended:,} runs {ended.failed / ended.ended:.1%} failed"


def stuck(seen: Seen) -> Iterator[Problem]:
    """Queues whose oldest message waits for long, those without a worker first. One that is worked off is behind, and
    nothing is wrong with it but that."""
    if seen.status.outage is not None:
        return
    alive, silent = {row.flow_slug for row in seen.rows if row.alive}, _silent(seen.rows)
    waiting = [
        queue
        for queue in seen.queues
        if (queue.depth.oldest_age or 0.0) >= (WAITS if queue.flow_slug in alive.difference(silent) else WAITS_ALONE)
    ]
    for queue in sorted(waiting, key=lambda q: (q.flow_slug in alive, -(q.depth.oldest_age or 0.0))):
        depth, served = queue.depth, queue.flow_slug in alive
        age = depth.oldest_age or 0.0
        done = seen.done.get(depth.queue, 0) if served and queue.flow_slug not in silent else 0
        busy = next((w for w in seen.workers if w.slug == queue.flow_slug and 0 < w.slots <= w.running), None)
        detail = "" if served else "No worker of it lives, in any process."
        if done:
            left = lasting(depth.waiting / done * DONE_WITHIN)
            detail = f"It moves: {done:,} done in the last {lasting(DONE_WITHIN)}, at which pace this takes {left}."
            then = "Wait, or have it done sooner: raise `max_concurrency`, or start processes."
        elif not served:
            then = f"Start a process that has {queue.flow_slug}, or see above why its module failed."
        elif queue.flow_slug in silent:
            detail = f"Of its workers nothing was heard for {lasting(silent[queue.flow_slug])}: they may be dead."
            then = f"See that the processes live that have {queue.flow_slug}, else start one."
        elif busy is not None:
            then = f"All {busy.slots} slots of its worker here are taken: raise `max_concurrency`, or start processes."
        else:
            then = "Its workers live: see whether they have a trouble, or too few slots for so many messages."
        yield Problem(
            "queue_behind" if done else "queue_stuck",
            "bad" if not served or (age >= WAITS_LONG and not done) else "warn",
            f"{'' if served else 'Nobody works: '}{depth.waiting:,} {_waits(depth.waiting)} in queue {depth.queue},"
            f" the oldest for {lasting(age)}",
            detail,
            (seen.queues_at or seen.now) - timedelta(seconds=age),
            then,
            {"queue": depth.queue},
            QUEUE_STILL.place,
        )


def _silent(rows: Sequence[WorkerRow]) -> Mapping[str, float]:
    """The flows whose workers count as alive and are silent, and for how long at least: by the server's clock, which is
    as late as the last beat of anybody."""
    heard: dict[str, datetime] = {}
    for row in rows:
        if row.alive and row.last_heartbeat_at is not None:
            heard[row.flow_slug] = max(row.last_heartbeat_at, heard.get(row.flow_slug, row.last_heartbeat_at))
    last = max(heard.values(), default=None)
    ages = {slug: (last - at).total_seconds() for slug, at in heard.items() if last is not None}
    return {slug: age for slug, age in ages.items() if age >= SILENT}


def _waits(count: int) -> str:
    return "message waits" if count == 1 else "messages wait"


def retries(retries: Iterable[StepRetries]) -> Iterator[Problem]:
    """Steps that are tried again."""
    for each in sorted(retries, key=lambda retried: -retried.tasks):
        yield Problem(
            "step_retrying",
            "warn",
            f"{each.tasks} task{'s' if each.tasks > 1 else ''} of step {_step(each)}"
            f" {'are' if each.tasks > 1 else 'is'} to be tried again",
            each.error or "",
            each.since,
            "Nothing is lost: each goes on by itself until its attempts are used up; open the run for the error.",
            {"run": str(each.run)},
            RUNS_FAIL.place,
        )


def slow(failing: Failing) -> Iterator[Problem]:
    """That an index is missing."""
    if not failing.indexed:
        yield Problem(
            "no_index",
            "warn",
            "Runs are not found in time" if failing.blind else "Runs are found slowly",
            "There are many, and no index on when they began."
            + (" Failing runs are not told meanwhile." if failing.blind else ""),
            None,
            "As the owner of the tables: CREATE INDEX CONCURRENTLY runs_newest_first"
            " ON pgflow.runs (started_at DESC, run_id DESC).",
            None,
            "docs/how-to/runs.md",
        )
