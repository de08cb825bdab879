"""`python -m tests.fast_lane.mixed`: workers by the fast lane and by the core's functions at the same queues.

They are killed meanwhile. Nothing is lost, nothing doubled, and nobody waits for each other in a circle.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import count, cycle
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.stores.flows import compile_flow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.starter.client import PgflowClient
from tests.fast_lane import mixed_worker
from tests.fast_lane.mixed_worker import FLOWS, JOBS
from tests.fast_lane.rows import EVENTS
from tests.support.cores import install_core
from tests.support.database import opened
from tests.support.databases import FAST, memory_folder
from tests.support.programs import ROOT, environment
from tests.support.waiting import eventually

KINDS = ("auto", "off")
SLUGS = tuple(module.slug for module in (*FLOWS, *JOBS))

# Deadlocks are found before anybody has waited for a lock as long as we have anybody wait.
_SETTINGS = "alter database {} set deadlock_timeout = '50ms'"
_DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"
_BACKENDS = "select count(*) from pg_stat_activity where datname = current_database() and application_name like %s"
_HELD = """
select count(*) from pgflow.step_tasks t join pgflow.runs r using (run_id)
where t.status = 'started' and r.status = 'started' and t.last_worker_id = any(%s)
"""
_START = "select count(*) from unnest(%s::jsonb[]) i, lateral pgflow.start_flow(%s, i)"
_ENDED = "select count(*) from pgflow.runs where status <> 'started'"
_RUNS = "select run_id, flow_slug, input, status, output from pgflow.runs"
_EVENTS = "select payload->>'run_id', event, count(*) from realtime.events group by 1, 2"
_UNDONE = """
select t.run_id::text, t.step_slug, t.task_index, t.status from pgflow.step_tasks t join pgflow.runs r using (run_id)
where r.status = 'completed' and (t.status <> 'completed' or t.output is null)
"""
_COUNTS = "select run_id, count(*) from pgflow.step_tasks group by 1"
_QUEUED = "select count(*) from pgmq.q_{}"
_NOT_ONCE = """
select coalesce(t.message_id, a.msg_id), count(t.message_id), count(a.msg_id)
from (select message_id from pgflow.step_tasks where flow_slug = '{0}') t
full join pgmq.a_{0} a on a.msg_id = t.message_id group by 1
having count(t.message_id) <> 1 or count(a.msg_id) <> 1
"""
_BY_WORKER = "select last_worker_id, count(*) from pgflow.step_tasks where last_worker_id is not null group by 1"


_numbers = count()


class Expected(NamedTuple):
    """What must have become of a run."""

    status: str
    output: Any
    tasks: int
    events: frozenset[str]


def given(slug: str, n: int) -> Any:
    """The input of the n-th run of a flow."""
    return {"order": {"n": n}, "squares": [n + i for i in range(6)], "broken": {"n": n}}.get(slug, n)


def expected(slug: str, value: Any) -> Expected:
    """What becomes of a run with this input."""
    if slug in ("broken", "doomed"):
        return Expected("failed", None, 5 if slug == "broken" else 1, frozenset({"run:started", "run:failed"}))
    if slug == "order":
        n = value["n"]
        output: Any = {"bill": {"note": f"order {n}", "total": sum((n + i) * 2 for i in range(5))}}
    elif slug == "squares":
        output = {"summed": sum(number * number for number in value)}
    else:
        output = {slug: value}
    steps = {"order": ("lines", "note", "price", "total", "bill"), "squares": ("square", "summed")}.get(slug, (slug,))
    events = {f"step:{step}:{what}" for step in steps for what in ("started", "completed")}
    tasks = {"order": 9, "squares": 7}.get(slug, 1)
    return Expected("completed", output, tasks, frozenset(events | {"run:started", "run:completed"}))


ROUND = ("order", "squares", "mail", "broken", "mail", "doomed", "mail")
"""The runs of a round, and its tasks."""

TASKS_A_ROUND = sum(expected(slug, given(slug, 0)).tasks for slug in ROUND)


class Result(NamedTuple):
    """What came of it; without `problems` all is well."""

    runs: int
    tasks: int
    by_kind: dict[str, int]
    kills: int
    deadlocks: int
    seconds: float
    problems: Sequence[str]


class Worker:
    """One process. Its workers' ids are known once it has said them."""

    def __init__(self, conninfo: str, kind: str) -> None:
        self.kind = kind
        self.name = f"worker{next(_numbers)}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", mixed_worker.__name__, make_conninfo(conninfo, application_name=self.name), kind],
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ids: list[UUID] = []

    def await_ready(self) -> None:
        """Until it is wired."""
        assert self.process.stdout is not None
        self.ids = [UUID(text) for text in self.process.stdout.readline().split()]
        assert len(self.ids) == len(SLUGS), self.end()

    def kill(self) -> str:
        """At once; what it said of the fast lane."""
        self.process.kill()
        return self.process.communicate()[1]

    def end(self) -> str:
        """In order; the same."""
        return self.process.communicate()[1]


class Mixture:
    """The processes at one database, and what is started there."""

    def __init__(self, conninfo: str, admin: psycopg.Connection[Any], store: PostgresTaskStore, wait: float) -> None:
        self.conninfo, self.admin, self.store, self.wait = conninfo, admin, store, wait
        self.living: list[Worker] = []
        self.kind_of: dict[UUID, str] = {}
        self.said: list[str] = []
        self.started = 0

    def work(self, kinds: Iterable[str]) -> None:
        """More processes."""
        new = [Worker(self.conninfo, kind) for kind in kinds]
        self.living += new
        for worker in new:
            worker.await_ready()
            self.kind_of.update(dict.fromkeys(worker.ids, worker.kind))

    def kill(self, kind: str) -> None:
        """The oldest of a kind, give back what it had, and begin another."""
        victim = next(worker for worker in self.living if worker.kind == kind)
        self.living.remove(victim)
        self.said.append(victim.kill())
        # What it was at goes on until its backends notice.
        eventually(lambda: self.count(_BACKENDS, victim.name) == 0, self.wait, "the end of its backends")
        eventually(lambda: self._recovered(victim), self.wait, "the recovery of its tasks")
        self.work([kind])

    def _recovered(self, victim: Worker) -> bool:
        self.store.recover_stalled(SLUGS, [worker_id for worker in self.living for worker_id in worker.ids], 0.0)
        return self.count(_HELD, victim.ids) == 0

    def start(self, client: PgflowClient, rounds: range, by_function: bool) -> None:
        """The runs of these rounds."""
        for slug, times in Counter(ROUND).items():
            inputs = [given(slug, n * times + i) for n in rounds for i in range(times)]
            if by_function:
                self.admin.execute(_START, ([Jsonb(value) for value in inputs], slug))
            else:
                client.start_flows(slug, inputs)
            self.started += len(inputs)

    def await_ended(self, share: float) -> None:
        """Until so many of those that were started have ended."""
        eventually(lambda: self.count(_ENDED) >= self.started * share, self.wait, f"the end of {share:.0%} of the runs")

    def count(self, query: str, *parameters: Any) -> int:
        """What a query counts."""
        row = self.admin.execute(query.encode(), parameters or None).fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        """End all that live."""
        self.said += [worker.end() for worker in self.living]
        self.living.clear()


def mix(conninfo: str, tasks: int, *, processes: int, kills: int, wait: float) -> Result:
    """Play it in a database that has nothing else, and look at every row. Raises AssertionError where it hangs."""
    began = time.monotonic()
    rounds = -(-tasks // TASKS_A_ROUND)
    with ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(conninfo, autocommit=True))
        admin.execute(EVENTS)
        admin.execute(_SETTINGS.format(admin.info.dbname).encode())
        for module in (*FLOWS, *JOBS):
            compile_flow(admin, module.__pgflow_definition__())
        store = PostgresTaskStore(stack.enter_context(opened(conninfo)))
        mixture = Mixture(conninfo, admin, store, wait)
        stack.callback(lambda: [worker.kill() for worker in mixture.living])
        client = stack.enter_context(PgflowClient(conninfo))
        mixture.work(kind for kind, _ in zip(cycle(KINDS), range(processes), strict=False))
        bounds = [rounds * part // (kills + 1) for part in range(kills + 2)]
        for part, kind in zip(range(kills + 1), cycle(KINDS), strict=False):
            begin, end = bounds[part : part + 2]
            middle = (begin + end) // 2
            mixture.start(client, range(begin, middle), by_function=True)
            mixture.start(client, range(middle, end), by_function=False)
            if part < kills:
                mixture.await_ended(0.6)
                mixture.kill(kind)
        mixture.await_ended(1.0)
        mixture.close()
        eventually(lambda: mixture.count(_BACKENDS, "worker%") == 0, wait, "the end of all backends")
        deadlocks = mixture.count(_DEADLOCKS)
        by_kind = Counter[str]()
        for worker, done in admin.execute(_BY_WORKER):
            by_kind[mixture.kind_of.get(worker, "nobody")] += done
        problems = [*(said for said in mixture.said if said), *look(admin)]
        problems += [f"nothing was done by {kind!r}" for kind in KINDS if not by_kind[kind]]
        problems += [f"{deadlocks} deadlocks"] if deadlocks else []
        done = mixture.count("select count(*) from pgflow.step_tasks")
        return Result(mixture.started, done, dict(by_kind), kills, deadlocks, time.monotonic() - began, problems)


def look(admin: psycopg.Connection[Any]) -> list[str]:
    """What is wrong with the rows that are left."""
    problems = []
    counts: dict[UUID, int] = dict(admin.execute(_COUNTS).fetchall())
    events: dict[str, dict[str, int]] = {}
    for run_id, event, times in admin.execute(_EVENTS):
        events.setdefault(run_id, {})[event] = times
    for run_id, slug, value, status, output in admin.execute(_RUNS):
        wanted, sent = expected(slug, value), events.get(str(run_id), {})
        failed = wanted.status == "failed"
        # Of a run that failed, steps beside the one that did may have been completed or not.
        seen = {event: n for event, n in sent.items() if not failed or event.startswith("run:")}
        if (status, None if failed else output, counts.get(run_id)) != wanted[:3]:
            problems.append(f"{slug} {run_id}: {status}, {output}, {counts.get(run_id)} tasks, not {wanted[:3]}")
        if seen != dict.fromkeys(wanted.events, 1):
            problems.append(f"{slug} {run_id}: events {seen}")
    problems += [f"not completed, in a completed run: {row}" for row in admin.execute(_UNDONE)]
    for slug in SLUGS:
        queued = admin.execute(_QUEUED.format(slug).encode()).fetchone()
        problems += [f"{queued[0]} messages are left of {slug}"] if queued and queued[0] else []
        problems += [f"message {row} of {slug}" for row in admin.execute(_NOT_ONCE.format(slug).encode())]
    return problems


def main() -> int:
    """Play it on a server of its own; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fast_lane.mixed", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=4, help="half of them of either kind")
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    logging.getLogger("pgflow_starter").setLevel(logging.CRITICAL)  # tasks that are given up are told
    with EmbeddedPostgres(settings=FAST, parent=memory_folder()) as server:
        install_core(server.conninfo())
        found = mix(
            server.conninfo(), arguments.tasks, processes=arguments.processes, kills=arguments.kills, wait=600.0
        )
    print(
        f"{found.runs} runs, {found.tasks} tasks ({found.by_kind}), {found.kills} kills, {found.deadlocks} deadlocks,"
        f" {found.seconds / 60:.1f} minutes, {len(found.problems)} problems"
    )
    print(*found.problems[:50], sep="\n")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
