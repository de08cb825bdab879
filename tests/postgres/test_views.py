"""What a page asks of a database with 100,000 runs: by what it is found, and how much is read for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pgflow_starter.core.runs import RunStatus
from pgflow_starter.core.views import Place, RunsWanted
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.told_errors import ToldErrors
from pgflow_starter.postgres.client.views import Views
from pgflow_starter.postgres.stores import queue_depths
from tests.postgres.rights_rig import Admin, compiled
from tests.support.database import opened
from tests.support.starters import echo_job

RUNS = 100_000
BIG = {"runs", "step_states", "step_tasks", "q_many", "a_many"}
PATIENCE = 30.0
MOST_PAGES = 4_000
"""Of 8 kB, that one statement may look at: in memory a thousand of them are a millisecond."""

# One a second; each twentieth failed, the newest hundred go on, and ten are of a flow that is seldom started.
_RUNS = """
insert into pgflow.runs (run_id, flow_slug, status, input, remaining_steps, started_at, completed_at, failed_at)
select gen_random_uuid(), case when n %% 10000 = 0 then 'seldom' else 'many' end, status, to_jsonb(repeat('x', 200)),
       (status = 'started')::int, began, case when status = 'completed' then began end,
       case when status = 'failed' then began end
from generate_series(1, %(runs)s) n,
     lateral (select case when n <= 100 then 'started' when n %% 20 = 0 then 'failed' else 'completed' end as status,
                     now() - n * interval '1 s' as began) of_run;
"""
_STATES = """
insert into pgflow.step_states
    (flow_slug, run_id, step_slug, status, remaining_tasks, initial_tasks, created_at, started_at)
select flow_slug, run_id, flow_slug, status, remaining_steps, 1, started_at, started_at from pgflow.runs
"""
_TASKS = """
insert into pgflow.step_tasks
    (flow_slug, run_id, step_slug, message_id, status, attempts_count, queued_at, error_message)
select flow_slug, run_id, flow_slug, row_number() over (), case status when 'started' then 'queued' else status end, 1,
       started_at, case when status <> 'completed' then 'OSError: no' end from pgflow.runs
"""
_MESSAGES = """
insert into pgmq.q_many (vt, message)
select now() - n * interval '1 s', '{}' from generate_series(-50000, 50000) n
"""


_ARCHIVED = """
insert into pgmq.a_many (msg_id, vt, message, archived_at)
select n, now(), '{}', now() - n * interval '0.03 s' from generate_series(1, 100000) n
"""

FEW_PAGES = 1_000
# A thousand tasks, each with an error of some pages.
_ONE_RUN = """
insert into pgflow.runs (run_id, flow_slug, status, input, remaining_steps, started_at, failed_at)
values (%(run)s, 'many', %(status)s, '1', 1, now(), case when %(status)s = 'failed' then now() end)
"""
_ITS_STATE = """
insert into pgflow.step_states
    (flow_slug, run_id, step_slug, status, remaining_tasks, initial_tasks, created_at, started_at, failed_at)
select flow_slug, run_id, flow_slug, status, 1000, 1000, started_at, started_at, failed_at from pgflow.runs
"""
_LONG_ERRORS = """
insert into pgflow.step_tasks
    (flow_slug, run_id, step_slug, task_index, message_id, status, attempts_count, queued_at, failed_at, error_message)
select r.flow_slug, r.run_id, r.flow_slug, n, n, %(of_task)s, 1, r.started_at, r.failed_at, 'OSError: ' || long
from pgflow.runs r, generate_series(1, 1000) n,
     lateral (select string_agg(md5(n || ' ' || x), '') as long from generate_series(1, 300) x) of_task
"""


@contextmanager
def views(conninfo: str) -> Iterator[Views]:
    with opened(conninfo) as database:
        made = Views(Calls(database), ToldErrors(True, str))
        yield made
        made.close()


def explained(admin: Admin, ask: Callable[[], object]) -> dict[str, Any]:
    """How the server carries out the statements by which it is asked, by their texts."""
    texts: list[str] = []
    genuine = psycopg.Cursor.execute

    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        result = genuine(self, query, params, **options)
        text = self._query.query.decode()
        # Each is sent with its own limits, or in a transaction that has them.
        text = text.partition(";")[2] if "statement_timeout" in text else text
        if text.lstrip().startswith(("select", "with")) and "set_config" not in text:
            texts.append(text)
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(psycopg.Cursor, "execute", execute)
        ask()
    assert texts
    plans: dict[str, Any] = {}
    for text in texts:
        row: Any = admin.execute(f"explain (analyze, timing off, buffers, format json) {text}".encode()).fetchone()
        plans[text] = row[0][0]["Plan"]
    return plans


def nodes(plan: Any) -> Iterator[Any]:
    """A plan's parts."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def pages(plan: Any) -> int:
    """How many were looked at for it, of tables and indexes, in memory or not."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


QUESTIONS: dict[str, Callable[[Views, Any], object]] = {
    "the newest": lambda views, _: views.runs(RunsWanted(), patience=PATIENCE),
    "a later page": lambda views, run: views.runs(RunsWanted(after=Place(run.started_at, run.id)), patience=PATIENCE),
    "those that failed": lambda views, _: views.runs(of("failed"), patience=PATIENCE),
    "those that go on": lambda views, _: views.runs(of("started"), patience=PATIENCE),
    "two statuses": lambda views, _: views.runs(of("completed", "failed"), patience=PATIENCE),
    "none of a status": lambda views, _: views.runs(of("started", flow="seldom"), patience=PATIENCE),
    "a flow with most of them": lambda views, _: views.runs(of("failed", flow="many"), patience=PATIENCE),
    "a flow with few": lambda views, _: views.runs(of(flow="seldom"), patience=PATIENCE),
    "since a time": lambda views, run: views.runs(RunsWanted(since=run.started_at), patience=PATIENCE),
    "until a time": lambda views, run: views.runs(RunsWanted(until=run.started_at), patience=PATIENCE),
    "by its id": lambda views, run: views.runs(RunsWanted(id=run.id), patience=PATIENCE),
    "one run": lambda views, run: views.run(run.id, payloads=True, patience=PATIENCE),
    "queues": lambda views, _: views.queues(patience=PATIENCE),
    "what was done": lambda views, _: views.done_before(["many", "seldom"], every=15, slots=240, patience=PATIENCE),
    "workers": lambda views, _: views.workers(patience=PATIENCE),
    "what fails": lambda views, _: views.failing(patience=PATIENCE),
}


def of(*statuses: RunStatus, flow: str | None = None) -> RunsWanted:
    return RunsWanted(frozenset(statuses), flow=flow)


def filled(admin: Admin) -> None:
    """With the runs, their steps and tasks, and a queue."""
    compiled(admin, echo_job("many"), echo_job("seldom"))
    admin.execute("set session_replication_role = replica")  # what refers to what is known to be there
    for made in (_RUNS, _STATES, _TASKS, _MESSAGES, _ARCHIVED):
        admin.execute(made, {"runs": RUNS} if "%(" in made else None)
    admin.execute("reset session_replication_role; analyze")


def test_nothing_that_a_page_asks_reads_a_table_of_100_000_runs(database: str, admin: Admin) -> None:
    filled(admin)
    wrong: list[str] = []
    with views(database) as asked:
        middle = asked.runs(RunsWanted(limit=100), patience=PATIENCE).runs[-1]
        admin.execute("set enable_seqscan = off; set jit = off")  # as our sessions have it
        for name, question in QUESTIONS.items():
            for text, plan in explained(admin, partial(question, asked, middle)).items():
                whole = {n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan"} & BIG
                if whole or pages(plan) > MOST_PAGES:
                    wrong.append(f"{name}: reads all of {whole}, {pages(plan):,} pages: {text}")
        assert wrong == []
        assert turned_over(asked, of("failed", flow="many")) == ids(admin, "status = 'failed' and flow_slug = 'many'")
        assert turned_over(asked, of(flow="seldom")) == ids(admin, "flow_slug = 'seldom'")
        admin.execute("drop index pgflow.runs_newest_first")
        assert asked.runs(RunsWanted(limit=100), patience=PATIENCE).runs[-1] == middle
        assert not asked.failing(patience=PATIENCE).indexed


@pytest.mark.parametrize("status", ["failed", "queued"])
def test_of_thousands_of_tasks_that_fail_with_long_errors_few_errors_are_read(
    database: str, admin: Admin, status: str
) -> None:
    compiled(admin, echo_job("many"))
    admin.execute("set session_replication_role = replica")
    run_status = "failed" if status == "failed" else "started"
    for made in (_ONE_RUN, _ITS_STATE, _LONG_ERRORS):
        admin.execute(made, {"run": UUID(int=1), "status": run_status, "of_task": status})
    admin.execute("reset session_replication_role; analyze")
    with views(database) as asked:
        found = asked.failing(patience=PATIENCE)
        error = found.failures[0].error if status == "failed" else found.retries[0].error
        assert error is not None
        assert error.startswith("OSError: ")
        assert len(error) <= 500
        for text, plan in explained(admin, lambda: asked.failing(patience=PATIENCE)).items():
            assert pages(plan) < FEW_PAGES, text


def test_locked_queues_are_waited_for_a_few_times_only(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_depths, "MOST_LOCKED", 1)
    compiled(admin, *(echo_job(f"q{n}") for n in range(4)))
    with views(database) as asked, psycopg.connect(database) as somebody:
        somebody.execute("lock table pgmq.q_q1")
        assert [queue.depth.queue for queue in asked.queues(patience=1)] == ["q0", "q2", "q3"]
        somebody.execute("lock table pgmq.q_q2")
        with pytest.raises(DatabaseError) as failed:
            asked.queues(patience=1)
        assert failed.value.locked


def turned_over(views: Views, wanted: RunsWanted) -> list[UUID]:
    """The runs of all pages."""
    found: list[UUID] = []
    after: Place | None = None
    while True:
        page = views.runs(replace(wanted, after=after, limit=100), patience=PATIENCE)
        found += [run.id for run in page.runs]
        after = page.next
        if after is None:
            return found


def ids(admin: Admin, which: str) -> list[UUID]:
    """The newest first."""
    query = f"select run_id from pgflow.runs where {which} order by started_at desc, run_id desc"
    return [row[0] for row in admin.execute(query.encode()).fetchall()]
