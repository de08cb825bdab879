"""What the page is told of a real database: pages of runs, one run, queues, workers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from jsonschema import Draft202012Validator
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter import web
from pgflow_starter.postgres.client.run_page import trace_id
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.web.client import get

SECRET = "card-4711"


def order() -> pgflow.Flow:
    """Three steps, of which one has two tasks, and the last fails."""
    flow = pgflow.Flow("order", max_attempts=1)

    @flow.step()
    def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
        return [1, 2]

    @flow.map(array="lines")
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        return line * 2

    @flow.step(depends_on=["price"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        raise ValueError(SECRET)

    return flow


@pytest.fixture
def starter(database: str) -> Iterator[pgflow.Starter]:
    with running(database, flows=[order()], jobs=[echo_job()]) as started:
        started.await_ready(30)
        yield started


def valid(url: str, path: str, schema: str) -> Any:
    """The answer at that path, which is as its schema says."""
    answer = get(url, path)
    assert answer.status == 200, answer.text
    Draft202012Validator(
        get(url, f"/{schema}/schema").data, format_checker=Draft202012Validator.FORMAT_CHECKER
    ).validate(answer.data)
    assert answer.data["error"] is None
    return answer.data


def test_runs_are_turned_over_page_by_page_each_once(starter: pgflow.Starter) -> None:
    runs = starter.client.enqueue_many("echo", range(7))
    with web.serve(starter, ":0") as server:
        seen, after = [], ""
        for size in (3, 3, 1):
            page = valid(server.url, f"/runs?limit=3{after}", "runs")
            assert len(page["runs"]) == size
            seen += [run["id"] for run in page["runs"]]
            after = f"&after={page['next']}"
    assert page["next"] is None
    assert sorted(seen) == sorted(str(run.id) for run in runs)


def test_runs_are_found_by_status_flow_time_and_id(starter: pgflow.Starter) -> None:
    failed = starter.client.start_flow("order", {}).wait(30)
    done = starter.client.enqueue("echo", 1).wait(30)
    assert failed.started_at is not None
    assert done.started_at is not None
    with web.serve(starter, ":0") as server:

        def found(query: str) -> list[str]:
            return [run["id"] for run in valid(server.url, f"/runs?{query}", "runs")["runs"]]

        both = [str(done.id), str(failed.id)]
        assert found("") == found("status=failed&status=completed") == both
        assert found("status=failed") == found("flow=order") == found(f"id={failed.id}") == both[1:]
        assert found("status=started") == found("flow=nobodys") == found(f"id={failed.id}&flow=echo") == []
        assert found(f"since={quote(done.started_at.isoformat())}") == both[:1]
        assert found(f"since={done.started_at.isoformat()}") == both[:1]
        assert found(f"until={quote(failed.started_at.isoformat())}") == both[1:]


def test_a_run_is_told_with_its_graph_its_tasks_and_its_error(starter: pgflow.Starter) -> None:
    run = starter.client.start_flow("order", {"card": SECRET}).wait(30)
    again = starter.client.rerun(run.id).wait(30)
    with web.serve(starter, ":0", trace_url="https://traces/{run_id}", payloads=True, actions=True) as server:
        told = valid(server.url, f"/runs/{again.id}", "run")["run"]
    assert (told["status"], told["error"]) == ("failed", f"ValueError: {SECRET}")
    assert told["rerun_of"] == str(run.id)
    assert told["trace_url"] == f"https://traces/{again.id}"
    assert told["actions"] == ["rerun"]
    assert told["payloads"] == {"input": f'{{\n    "card": "{SECRET}"\n}}', "output": None}
    assert [(s["slug"], s["type"], s["depends_on"], s["tasks"]) for s in told["steps"]] == [
        ("lines", "single", [], 1),
        ("price", "map", ["lines"], 2),
        ("total", "single", ["price"], 1),
    ]
    first, *others = told["tasks"]
    assert (first["step"], first["error"], told["more_tasks"]) == ("total", f"ValueError: {SECRET}", 0)
    assert "raise ValueError(SECRET)" in first["traceback"]
    assert [(t["step"], t["index"]) for t in others] == [("lines", 0), ("price", 0), ("price", 1)]


def test_of_a_step_that_has_not_begun_no_task_is_missing(starter: pgflow.Starter) -> None:
    run = starter.client.start_flow("order", {}, delay=3600)
    with web.serve(starter, ":0") as server:
        told = valid(server.url, f"/runs/{run.id}", "run")["run"]
    assert ([task["step"] for task in told["tasks"]], told["more_tasks"]) == (["lines"], 0)


@pytest.mark.parametrize("given", ["9" * 400 + ".5", "9" * 5000, "12345678901234567890.125"])
def test_a_payload_is_told_to_the_last_digit_whatever_python_makes_of_it(
    starter: pgflow.Starter, database: str, given: str
) -> None:
    run = starter.client.enqueue("echo", 1).wait(30)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("update pgflow.runs set input = %s::jsonb where run_id = %s", (given, run.id))
    with web.serve(starter, ":0", payloads=True) as server:
        answer = get(server.url, f"/runs/{run.id}")
    told = json.loads(answer.body, parse_constant=pytest.fail)
    assert told["error"] is None
    assert told["run"]["payloads"]["input"] == given


def test_of_an_error_of_many_megabytes_little_is_read(starter: pgflow.Starter, database: str) -> None:
    run = starter.client.start_flow("order", 1).wait(30)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("update pgflow.step_tasks set error_message = repeat('OSError: no ', 1000000)")
    sizes: list[int] = []
    genuine = psycopg.Cursor.fetchone, psycopg.Cursor.fetchall

    def fetchone(cursor: Any) -> Any:
        row = genuine[0](cursor)
        sizes.append(len(str(row)))
        return row

    def fetchall(cursor: Any) -> Any:
        rows = genuine[1](cursor)
        sizes.append(len(str(rows)))
        return rows

    with web.serve(starter, ":0") as server, pytest.MonkeyPatch.context() as patched:
        patched.setattr(psycopg.Cursor, "fetchone", fetchone)
        patched.setattr(psycopg.Cursor, "fetchall", fetchall)
        told = valid(server.url, f"/runs/{run.id}", "run")["run"]
    assert told["error"].startswith("OSError: no")
    assert max(sizes) < 100_000


def test_without_payloads_and_messages_nothing_of_them_is_there(database: str) -> None:
    with running(database, flows=[order()], log_errors="type") as starter, web.serve(starter, ":0") as server:
        starter.await_ready(30)
        run = starter.client.start_flow("order", {"card": SECRET}).wait(30)
        told = valid(server.url, f"/runs/{run.id}", "run")
    assert SECRET not in json.dumps(told)
    assert told["run"]["error"] == told["run"]["tasks"][0]["error"] == "ValueError"
    assert "in total" in told["run"]["tasks"][0]["traceback"]
    assert told["run"]["actions"] == []


def test_a_task_that_waits_tells_from_when_on_it_may_be_claimed(starter: pgflow.Starter) -> None:
    run = starter.client.enqueue("echo", 1, delay=500)
    with web.serve(starter, ":0", actions=True) as server:
        told = valid(server.url, f"/runs/{run.id}", "run")["run"]
    (task,) = told["tasks"]
    assert task["visible_at"] > task["queued_at"]
    assert (task["status"], told["actions"]) == ("queued", ["cancel"])


def test_queues_tell_what_waits_and_what_is_hidden(database: str) -> None:
    with running(database, jobs=[echo_job("quick")], flows=[order()]) as starter, web.serve(starter, ":0") as server:
        starter.await_ready(30)
        starter.client.enqueue("quick", 1, delay=500)
        assert {q["queue"] for q in valid(server.url, "/queues", "queues")["queues"]} == {"order", "quick"}

        def hidden() -> Any:
            return [q["hidden"] for q in valid(server.url, "/queues", "queues")["queues"] if q["queue"] == "quick"]

        eventually(lambda: hidden() == [1])


def test_what_was_done_before_anybody_looked_is_told(starter: pgflow.Starter) -> None:
    for run in starter.client.enqueue_many("echo", range(30)):
        run.wait(30)

    def done(url: str) -> Any:
        (of_echo,) = [q for q in valid(url, "/queues", "queues")["queues"] if q["queue"] == "echo"]
        return sum(n or 0 for n in of_echo["history"]["done"])

    def seen_by_a_new_page() -> bool:  # what the server counts is a little late
        with web.serve(starter, ":0") as server:
            return bool(done(server.url) == 30)

    eventually(seen_by_a_new_page, 30)


def test_a_long_queue_of_which_some_was_done_moves(database: str, release: threading.Event) -> None:
    @pgflow.job("bulk", max_concurrency=1)
    def bulk(n: int, ctx: pgflow.TaskContext) -> None:
        if n >= 3:
            release.wait()

    with running(database, jobs=[bulk], batch_size=1, shutdown_timeout=0.0) as starter:
        starter.await_ready(30)
        for run in starter.client.enqueue_many(bulk, range(10))[:3]:
            run.wait(30)
        with psycopg.connect(database) as admin:
            admin.execute("update pgmq.q_bulk set vt = now() - interval '400 s' where vt <= now()")

        def told_to_a_new_page() -> set[str]:
            with web.serve(starter, ":0") as server:
                return {problem["kind"] for problem in valid(server.url, "/problems", "problems")["problems"]}

        eventually(lambda: told_to_a_new_page() == {"queue_behind"}, 30)
        release.set()


def test_workers_of_all_processes_are_told(starter: pgflow.Starter, database: str) -> None:
    with running(database, jobs=[echo_job()]) as other, web.serve(starter, ":0") as server:
        other.await_ready(30)
        told = eventually(
            lambda: (
                [w for w in valid(server.url, "/workers", "workers")["workers"] if w["flow_slug"] == "echo"][1:]
                and valid(server.url, "/workers", "workers")["workers"]
            )
        )
    assert sorted((w["flow_slug"], w["here"], w["alive"]) for w in told) == [
        ("echo", False, True),
        ("echo", True, True),
        ("order", True, True),
    ]


def test_of_thousands_of_workers_one_of_each_flow_is_told(starter: pgflow.Starter, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("""
            insert into pgflow.workers (worker_id, queue_name, function_name, started_at, last_heartbeat_at)
            select gen_random_uuid(), case n when 1 then 'seldom' else 'many' end, 'x', now(),
                   now() - interval '30 s' + n * interval '1 ms' from generate_series(1, 3000) n
        """)
    with web.serve(starter, ":0") as server:
        told = valid(server.url, "/workers", "workers")["workers"]
    assert {worker["flow_slug"] for worker in told if worker["alive"]} == {"order", "echo", "many", "seldom"}
    assert len(told) == 2001


def test_problems_name_a_step_that_fails_and_one_that_is_tried_again(starter: pgflow.Starter, database: str) -> None:
    flaky = pgflow.Flow("flaky", max_attempts=5, base_delay=100)

    @flaky.step()
    def never(given: Any, ctx: pgflow.TaskContext) -> Any:
        raise OSError("not today")

    with running(database, flows=[flaky]) as other, web.serve(starter, ":0") as server:
        other.await_ready(30)
        waiting = other.client.start_flow(flaky, {})
        starter.client.cancel(starter.client.enqueue("echo", 1, delay=500).id)
        failed = [run.wait(30) for run in starter.client.start_flows("order", [{}, {}, {}])]

        def told() -> Any:
            found = valid(server.url, "/problems", "problems")["problems"]
            assert not [p for p in found if "echo" in p["title"]]  # to cancel a run is no failure
            return {p["kind"]: p for p in found}

        eventually(lambda: {"step_failing", "step_retrying"} <= told().keys())
        found = told()
    assert found["step_failing"]["title"] == "Step total of order fails: 3 runs in the last hour"
    assert found["step_failing"]["detail"] == f"ValueError: {SECRET}"
    assert found["step_failing"]["link"]["run"] in {str(run.id) for run in failed}
    assert found["step_retrying"]["link"] == {"run": str(waiting.id)}
    assert found["step_retrying"]["detail"] == "OSError: not today"


def test_a_queue_that_somebody_has_locked_is_left_out_and_the_others_are_told(
    starter: pgflow.Starter, database: str
) -> None:
    starter.client.enqueue("echo", 1, delay=500)
    with psycopg.connect(database) as holder, web.serve(starter, ":0") as server:
        holder.execute("lock table pgmq.q_order")
        told = eventually(lambda: valid(server.url, "/queues", "queues")["queues"])
    assert [(queue["queue"], queue["hidden"]) for queue in told] == [("echo", 1)]


def test_a_run_leads_to_the_trace_that_it_began_in(starter: pgflow.Starter, database: str) -> None:
    traced, untraced = (starter.client.enqueue("echo", 1, delay=500) for _ in range(2))
    trace = uuid4().hex
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            "update pgmq.q_echo set headers = jsonb_build_object('traceparent', %s::text)"
            " where message ->> 'run_id' = %s",
            (f"00-{trace}-00f067aa0ba902b7-01", str(traced.id)),
        )
    with web.serve(starter, ":0", trace_url="https://traces/{trace_id}?of={run_id}") as server:
        links = [valid(server.url, f"/runs/{run.id}", "run")["run"]["trace_url"] for run in (traced, untraced)]
    assert links == [f"https://traces/{trace}?of={traced.id}", None]


@pytest.mark.parametrize("parent", [None, "", "00-1-2-3", f"00-{'0' * 32}-1-01", f"00-{'g' * 32}-1-01", "x" * 9000])
def test_what_is_no_trace_leads_nowhere(parent: str | None) -> None:
    assert trace_id(parent) is None


def test_a_database_that_does_not_answer_is_told_with_what_is_known(starter: pgflow.Starter, database: str) -> None:
    run = starter.client.enqueue("echo", 1).wait(30)
    things = {"/runs": "runs", f"/runs/{run.id}": "run", "/queues": "queues", "/workers": "workers"}
    with web.serve(starter, ":0") as server:

        def data(path: str) -> Any:
            answer = get(server.url, path)
            assert answer.status == 200
            return answer.data

        for path, what in things.items():
            eventually(lambda path=path, what=what: data(path)[what])  # type: ignore[misc]
        with psycopg.connect(database) as holder:
            holder.execute("lock table pgflow.runs, pgflow.flows, pgflow.workers")
            for path, what in things.items():
                told = eventually(lambda path=path: (seen := data(path))["error"] and seen)  # type: ignore[misc]
                assert told["as_of"] is not None
                assert told[what]
            told = eventually(lambda: (seen := data("/problems"))["error"] and seen)
            assert "not_seen" in [problem["kind"] for problem in told["problems"]]


def test_where_so_many_runs_without_an_index_are_not_found_in_time_it_is_told_how_to_make_it(
    starter: pgflow.Starter, database: str
) -> None:
    starter.client.enqueue("echo", 1).wait(30)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("drop index pgflow.runs_newest_first")
        admin.execute("update pg_class set reltuples = 2e6 where oid = 'pgflow.runs'::regclass")
        admin.execute("create role patient login; grant usage on schema pgflow, pgmq to patient")
        admin.execute("grant select on all tables in schema pgflow, pgmq to patient")
        # Each row takes its time, as a million do.
        admin.execute("alter table pgflow.runs enable row level security")
        admin.execute("create policy slow on pgflow.runs to patient using (pg_sleep(20) is not null)")
    try:
        with running(make_conninfo(database, user="patient"), jobs=[]) as looking, web.serve(looking, ":0") as server:
            (problem,) = get(server.url, "/problems").data["problems"]
            assert problem["kind"] == "no_index"
            assert problem["title"] == "Runs are not found in time"
            assert "CREATE INDEX CONCURRENTLY" in problem["next"]
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("drop owned by patient; drop role patient")


def test_a_role_that_may_not_look_is_told_what_it_has_not(starter: pgflow.Starter, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("create role onlooker login; grant usage on schema pgflow, pgmq to onlooker")
        admin.execute("grant select on pgflow.flows, pgflow.steps, pgflow.workers to onlooker")
    try:
        with running(make_conninfo(database, user="onlooker"), jobs=[]) as looking, web.serve(looking, ":0") as server:
            assert valid(server.url, "/queues", "queues")["queues"] == []
            assert "permission denied" in get(server.url, "/runs").data["error"]
            (problem,) = get(server.url, "/problems").data["problems"]
            assert (problem["kind"], problem["severity"]) == ("missing_grant", "bad")
            assert "db grant" in problem["next"]
            assert (problem["title"], problem["detail"]) == (
                "A right is missing: this page cannot look into the runs",
                "permission denied for table runs. Failing runs are not told meanwhile.",
            )
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("drop owned by onlooker; drop role onlooker")
