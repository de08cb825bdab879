"""One scenario: faults for a time, then none, and everything must come right by itself."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg

from pgflow_starter import ModuleStatus, PgflowError
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.chaos import ticks
from tests.chaos.faults import ACTORS
from tests.chaos.faults_in_queues import sweep
from tests.chaos.footprint import Footprint
from tests.chaos.load import Load
from tests.chaos.modules import OUTPUT, SETTINGS
from tests.chaos.scenarios import BOUNDED, PAUSES, PROCESSES_BESIDE, SCENARIOS
from tests.chaos.world import World, world
from tests.support.threads import left_over, ours
from tests.support.waiting import eventually

CONVERGE_WITHIN = 60.0
CONVERGED_WITHIN = 20.0
"""Seconds after the last fault was mended: a black hole takes up to 15 of silence, and the probe."""
STATUS_P99_MS = 5.0
THREADS_END_WITHIN = 5.0
BACKENDS = int(SETTINGS["pool_size"]) + 3
"""Sessions of one starter at most: its pool's, its listener's, its prober's, and one that is just being replaced."""
AROUND = timedelta(seconds=60)
LOOKS, LOOK_AGAIN = 20, 0.1
AT_LAST = 0.5
"""Seconds of load after the last fault at least."""

_never = threading.Event()
_TASKS = "select run_id, step_slug, task_index from pgflow.step_tasks where status = 'completed'"
_STRANDED = """
select count(*) from pgflow.step_tasks t join pgflow.runs r using (run_id)
where t.status = 'started' and r.status <> 'failed'
"""
_WRONG = f"select count(*) from pgflow.runs where status = 'completed' and output is distinct from {OUTPUT}"
_QUESTIONS = ("select run_id, status from pgflow.runs", _TASKS, f"select ({_STRANDED}), ({_WRONG})")


@dataclass(slots=True)
class Result:
    """What one scenario came to."""

    scenario: str
    seed: int
    seconds: float
    faults: int = 0
    runs: int = 0
    lost: int = 0
    tasks: int = 0
    repeated: int = 0
    unexplained: int = 0
    taken_over: int = 0
    stranded: int = 0
    backends_most: int = 0
    backends_left: int = 0
    asks: int = 0
    unanswered: int = 0
    raised: dict[str, int] = field(default_factory=dict)
    status_p99_ms: float = 0.0
    status_limit_ms: float = STATUS_P99_MS
    deadly_faults: int = 0
    restarts: int = 0
    converged_seconds: float = 0.0
    rss_growth_mb: float = 0.0
    fds_left: int = 0
    threads_left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Nothing lost, nobody left waiting, nothing left behind; and that it was really put to the test."""
        left = self.threads_left or self.fds_left > 0
        bounded = self.scenario not in BOUNDED or (self.backends_most <= BACKENDS and self.backends_left == 0)
        broken = (
            self.lost
            or self.stranded
            or not bounded
            or self.unexplained
            or self.unanswered
            or self.raised
            or left
            or self.problems
        )
        tested = self.asks > 0 and self.runs > 0 and self.faults > 0 and (self.restarts > 0 or not self.deadly_faults)
        quick = self.converged_seconds <= CONVERGED_WITHIN and self.status_p99_ms <= self.status_limit_ms
        return tested and quick and not broken

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**asdict(self), "passed": self.passed}


def run(
    server: EmbeddedPostgres,
    scenario: str,
    seconds: float,
    seed: int,
    *,
    longest: float,
    pause: float = 0.05,
    quiet: float = 1.5,
    status_limit_ms: float = STATUS_P99_MS,
    lives: bool = False,
) -> Result:
    """Break things for `seconds`, each fault for `longest` seconds at most, up to `quiet` seconds apart.

    `pause` seconds lie between a sender's messages on average. `status_limit_ms` is what 99 of 100 looks at the
    status may take. With `lives` runs are also delayed, cancelled, done again, put off, and started on time.
    """
    result = Result(scenario, seed, seconds, status_limit_ms=status_limit_ms)
    before, footprint = ours(), Footprint.now()
    with world(server, seed, PROCESSES_BESIDE.get(scenario, 0), pause, lives=lives) as w:
        began = SystemClock().now()
        with Load(w, seed, pause) as load:
            _break(w, scenario, seconds, seed, longest, quiet)
            mended, until = time.monotonic(), SystemClock().now()
        for process in w.processes:
            process.enough()
        try:
            _converge(w, result, mended)
            if lives:
                _account_ticks(w, result, began, until)
        except PgflowError as error:
            result.problems.append(str(error))
        for process in w.processes:
            process.close()  # what it told is in the ledger only then
            result.problems += process.problems
            result.threads_left += process.threads_left
        _account(w, result, load)
    result.backends_most, result.backends_left = w.backends.most, w.backends.left
    result.threads_left += left_over(before, THREADS_END_WITHIN)
    after = Footprint.now()
    result.fds_left, result.rss_growth_mb = after.fds - footprint.fds, after.rss_mb - footprint.rss_mb
    return result


def _break(w: World, scenario: str, seconds: float, seed: int, longest: float, quiet: float) -> None:
    """The same faults in the same order for the same seed, however long each took and whatever it met."""
    faults = SCENARIOS[scenario]
    order = random.Random(seed)
    number = 0
    deadline = time.monotonic() + seconds
    upcoming: list[str] = []
    while (left := deadline - time.monotonic()) > 0:
        if not upcoming:  # each in turn, in an order of the seed's
            upcoming = order.sample(sorted(faults), len(faults))
        name = upcoming.pop()
        number += 1
        w.random.seed(f"{seed} fault {number}")
        with w.ledger.fault(name):
            faults[name](w, min(longest, left))
        pause = order.uniform(*PAUSES.get(scenario, (0, quiet)))
        _never.wait(min(pause, max(AT_LAST, deadline - time.monotonic())))


def _converge(w: World, result: Result, mended: float) -> None:
    with w.direct() as admin:

        def open_runs() -> int:
            runs = {row[0] for row in admin.execute("select run_id from pgflow.runs where status = 'started'")}
            if purged := runs & w.ledger.forgotten():
                sweep(admin, purged)
            return len(runs)

        try:
            eventually(lambda: all(p.well for p in w.processes), CONVERGE_WITHIN, "the processes' success and silence")
            eventually(lambda: not open_runs(), CONVERGE_WITHIN, "the end of all runs")
            eventually(lambda: all(_well(s) for s in w.starters), CONVERGE_WITHIN, "the modules' success")
        except AssertionError as error:
            result.problems.append(str(error))
        for starter in w.starters:
            result.restarts += sum(c.restarts for c in starter.which_children())
            result.problems += [f"{m.module}: {m.status} {m.last_error}" for m in _unwell(starter)]
    result.converged_seconds = time.monotonic() - mended


def _unwell(starter: Any) -> list[Any]:
    return [m for m in starter.status().modules if m.status is not ModuleStatus.SUCCEEDED]


def _well(starter: Any) -> bool:
    return not _unwell(starter) and starter.status().outage is None


def _account_ticks(w: World, result: Result, began: datetime, until: datetime) -> None:
    """Each tick of that time is there, and nothing that is of no tick around it."""
    with w.direct() as admin:
        with suppress(AssertionError):
            eventually(lambda: not ticks.missing(admin, began, until), CONVERGE_WITHIN)
        result.problems += [f"the tick of {tick} was not started" for tick in ticks.missing(admin, began, until)]
        if untimely := ticks.untimely(admin, began - AROUND, SystemClock().now() + AROUND):
            result.problems.append(f"{untimely} runs of the schedule are of no tick")
    w.ledger.count("ticks that were due", len(list(ticks.due(began, until))))


def _between_ticks(admin: psycopg.Connection[tuple[Any, ...]]) -> tuple[list[Any], list[Any], int, int]:
    """Runs, tasks, how many are stranded and how many wrong: at a moment at which no run goes on, if there is one."""
    looks = LOOKS
    while True:
        looks -= 1
        with admin.transaction():
            admin.execute("set transaction isolation level repeatable read")
            runs, tasks, ((stranded, wrong),) = (admin.execute(question).fetchall() for question in _QUESTIONS)
        if not looks or all(status != "started" for _, status in runs):
            return runs, tasks, stranded, wrong
        _never.wait(LOOK_AGAIN)


def _account(w: World, result: Result, load: Load) -> None:
    with w.direct() as admin:
        runs, tasks, stranded, wrong = _between_ticks(admin)
    completed = {run_id for run_id, status in runs if status == "completed"}
    completed |= {run_id for run_id, status in runs if status == "failed" and run_id in load.lives.may_have_failed}
    unfinished = {run_id for run_id, _ in runs} - completed
    result.runs = len(runs)
    result.lost = len(w.ledger.missing(completed) | unfinished - w.ledger.forgotten())
    result.stranded = stranded
    if wrong:
        result.problems.append(f"{wrong} runs have another output than their input makes")
    result.tasks = len(tasks)
    never = sum(not w.ledger.times_handled(tuple(task)) for task in tasks)
    if never:
        result.problems.append(f"{never} tasks are completed and were never handled")
    result.repeated, result.unexplained = w.ledger.repeated()
    result.taken_over = w.ledger.taken_over()
    result.faults = w.ledger.faults().total()
    result.deadly_faults = sum(w.ledger.faults()[name] for name in ACTORS)
    result.problems += load.problems + load.lives.problems()
    result.asks, result.unanswered, result.raised = w.asks.made, w.asks.unanswered, dict(w.asks.raised)
    if len(load.status_seconds) > 1:
        result.status_p99_ms = statistics.quantiles(load.status_seconds, n=100)[98] * 1e3
    statuses = Counter(status for _, status in runs)
    w.ledger.count("bytes held up in the proxy at most", w.proxy.most_queued)
    result.told = {**w.ledger.faults(), **w.ledger.counts, **{f"runs {k}": v for k, v in statuses.items()}}
