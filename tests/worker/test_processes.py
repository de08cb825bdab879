"""Several processes at one queue: one is killed, one stopped, one joins late, and each task is done once at a time."""

from __future__ import annotations

import signal
from collections import defaultdict
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from uuid import UUID

import psycopg

from pgflow_starter.postgres.stores.flows import compile_flow
from tests.support.programs import read_until, running
from tests.support.starters import echo_job
from tests.support.waiting import eventually
from tests.worker import worker_process

TASKS = 2_000
Interval = tuple[float, float | None]


def _process(database: str, journal: Path) -> AbstractContextManager[Popen[str]]:
    return running("-m", worker_process.__name__, database, str(journal))


def _await_ready(*processes: Popen[str]) -> None:
    for process in processes:
        read_until(process.stdout, "ready")


def _handled(journal: Path) -> dict[UUID, list[Interval]]:
    """When each run was in the process's hands; a handler that was killed has no end."""
    found: dict[UUID, list[Interval]] = defaultdict(list)
    for line in journal.read_text().splitlines():
        what, run_id, at = line.split()
        if what == "began":
            found[UUID(run_id)].append((float(at), None))
        else:
            found[UUID(run_id)][-1] = found[UUID(run_id)][-1][0], float(at)
    return found


def _completed(admin: psycopg.Connection[tuple[object, ...]]) -> int:
    row = admin.execute("select count(*) from pgflow.runs where status = 'completed'").fetchone()
    assert row is not None
    return int(str(row[0]))


def _alive(admin: psycopg.Connection[tuple[object, ...]]) -> int:
    row = admin.execute(
        "select count(*) from pgflow.workers"
        " where deprecated_at is null and last_heartbeat_at > clock_timestamp() - interval '1 s'"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def test_four_processes_share_a_queue_though_one_is_killed_one_stopped_and_one_late(
    database: str, tmp_path: Path
) -> None:
    journals = [tmp_path / f"{name}" for name in ("stays", "killed", "stopped", "late")]
    with psycopg.connect(database, autocommit=True) as admin, ExitStack() as stack:
        compile_flow(admin, echo_job("shared", max_attempts=3, base_delay=0).__pgflow_definition__())
        stays, killed, stopped = (stack.enter_context(_process(database, journal)) for journal in journals[:3])
        _await_ready(stays, killed, stopped)
        admin.execute(
            "select count(*) from generate_series(1, %s) i, lateral pgflow.start_flow('shared', to_jsonb(i))", (TASKS,)
        )
        late = stack.enter_context(_process(database, journals[3]))
        eventually(lambda: _completed(admin) > TASKS // 10, 60)
        killed.kill()
        eventually(lambda: _completed(admin) > TASKS // 5, 60)
        stopped.send_signal(signal.SIGTERM)
        _await_ready(late)
        eventually(lambda: _completed(admin) == TASKS, 60)
        assert stopped.wait(20) == 0
        eventually(lambda: _alive(admin) == 2)
        row = admin.execute("select max(attempts_count) from pgflow.step_tasks").fetchone()
        assert row is not None
        assert int(str(row[0])) <= 2
    handled = [_handled(journal) for journal in journals]
    _check_each_at_a_time(handled)
    lost = {run for run, intervals in handled[1].items() if intervals[-1][1] is None}
    assert lost <= handled[0].keys() | handled[2].keys() | handled[3].keys()
    shares = [len(h) for h in handled]
    assert min(shares) > 0, shares
    # of what was done until the first of the three was killed, nobody had more than twice its share
    assert max(shares[1:3]) <= 2 * TASKS // 5, shares


def _check_each_at_a_time(handled: list[dict[UUID, list[Interval]]]) -> None:
    of_run: dict[UUID, list[Interval]] = defaultdict(list)
    for process in handled:
        for run, intervals in process.items():
            of_run[run] += intervals
    assert len(of_run) == TASKS
    for run, intervals in of_run.items():
        ordered = sorted(intervals, key=lambda i: i[0])
        for (_, ended), (began, _) in pairwise(ordered):
            assert ended is None or ended <= began, f"run {run} was handled twice at a time"
