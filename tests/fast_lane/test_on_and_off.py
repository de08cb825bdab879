"""When the fast lane is off: what there is that it was not proven with, nothing is lost by that, and it says why."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.fast_lane import known_cores, lane, wording
from pgflow_starter.postgres.stores.fast_lane.dialects import Dialect
from pgflow_starter.postgres.stores.fast_lane.lane import LOOK_AGAIN, FastLane
from pgflow_starter.postgres.stores.fast_lane.statements import Statements, statements_in
from pgflow_starter.postgres.stores.flows import PostgresFlowStore, compile_flow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.testing.manual import ManualClock
from tests.support.database import NoScope, opened
from tests.support.pauses import Between
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

WAIT = 30.0
LOGGER = "pgflow_starter.fast_lane"
UNKNOWN = "this core's functions or tables are none that it was proven to equal"
BROKEN = "select 1/0 from (select %(runs)s::text[]) x"
START = "select pgflow.start_flow('echo', to_jsonb(i)) from generate_series(1, %s) i"

AUDIT = "create function public.audit() returns trigger language plpgsql as 'begin return new; end'"

Admin = psycopg.Connection[tuple[Any, ...]]

# What somebody does, what undoes it, and what the fast lane says of it.
STRANGERS = {
    "a trigger": (
        "create trigger audit before update on pgflow.step_tasks for each row execute function public.audit()",
        "drop trigger audit on pgflow.step_tasks",
        "there is more on the core's tables than the core: trigger audit on step_tasks",
    ),
    "a column": (
        "alter table pgflow.runs add column note text",
        "alter table pgflow.runs drop column note",
        UNKNOWN,
    ),
    "a function": (
        "alter function pgflow.maybe_complete_run set work_mem = '8MB'",
        "alter function pgflow.maybe_complete_run reset work_mem",
        UNKNOWN,
    ),
}


def is_on(starter: pgflow.Starter) -> bool:
    """Whether its status says so."""
    state = starter.status().fast_lane
    assert state is not None
    return state.on


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(AUDIT)
        yield admin


@pytest.fixture
def db(database: str) -> Iterator[Database]:
    with opened(database) as made:
        yield made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the fast lane has said."""
    caplog.set_level(logging.INFO, LOGGER)
    return lambda: [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_a_stranger_does_to_the_core_turns_it_off_and_undoing_that_on_again(
    database: str,
    admin: Admin,
    stranger: str,
    lines: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    release: threading.Event,
) -> None:
    monkeypatch.setattr(lane, "LOOK_AGAIN", 0.0)
    done, undone, why = STRANGERS[stranger]
    begun = threading.Semaphore(0)

    @pgflow.job("held")
    def held(message: Any, ctx: pgflow.TaskContext) -> Any:
        begun.release()
        assert release.wait(WAIT)
        return message

    with running(database, jobs=[held]) as starter:
        starter.await_ready(WAIT)
        runs = starter.client.enqueue_many(held, range(30))
        assert all(begun.acquire(timeout=WAIT) for _ in range(10))
        assert is_on(starter)
        admin.execute(done)
        release.set()
        assert [run.wait(WAIT).result for run in runs] == [*range(30)]
        assert starter.status().fast_lane == pgflow.FastLaneState(on=False, reason=why)
        assert lines() == [f"the fast lane is off: {why}"]
        admin.execute(undone)
        assert [run.wait(WAIT).result for run in starter.client.enqueue_many(held, "ab")] == ["a", "b"]
        eventually(lambda: is_on(starter))
        assert lines() == [f"the fast lane is off: {why}", "the fast lane is on again"]


def test_runs_of_a_flow_that_another_runtime_has_in_camel_case_are_started_by_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("select pgflow.create_flow('camelCase'), pgflow.add_step('camelCase', 'only')")
        with pgflow.PgflowClient(database) as client:
            run = client.start_flow("camelCase", {"a": 1})
        told = admin.execute(
            "select q.message from pgmq.q_camelcase q join pgflow.step_tasks t on t.message_id = q.msg_id"
        ).fetchall()
    assert told == [({"run_id": str(run.id), "flow_slug": "camelCase", "step_slug": "only", "task_index": 0},)]


class Work:
    """A worker's store, and tasks of a job that it has started."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.tasks = PostgresTaskStore(db)
        self._definition, self._worker = definition_of(echo_job()), uuid4()
        flows = PostgresFlowStore(db, db.clock)
        flows.compile(self._definition, NoScope())
        flows.register_workers([(self._worker, "echo")], NoScope())

    def claim(self, count: int) -> tuple[Task, ...]:
        """So many new ones."""
        self.db.call(lambda conn: conn.execute(START, (count,)))
        return self.tasks.claim(self._definition, self._worker, count, NoScope()).tasks

    def complete(self, tasks: Sequence[Task], output: str = "1") -> None:
        """All of them, which nobody has locked."""
        settled = self.tasks.settle([Outcome(task, OutcomeKind.COMPLETED, output) for task in tasks])
        assert (list(settled), list(settled.ignored)) == ([], [])

    @property
    def on(self) -> bool:
        """Whether it is on."""
        state = self.tasks.fast_lane.state
        assert state is not None
        return state.on


def with_broken(**texts: str) -> Callable[[Dialect], Statements]:
    """The statements, these of them replaced in each dialect."""
    return lambda dialect: statements_in(dialect)._replace(**texts)


@pytest.fixture
def work(db: Database) -> Work:
    return Work(db)


def test_it_is_looked_at_with_the_first_claim(work: Work) -> None:
    assert work.tasks.fast_lane.state is None
    work.claim(0)
    assert work.on


def test_a_statement_of_its_own_that_fails_is_told_once_and_the_cores_functions_do_it(
    work: Work, admin: Admin, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "a statement of its own failed with 22012, the core's functions did it"
    monkeypatch.setattr(lane, "LOOK_AGAIN", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(wording, "statements_in", with_broken(complete_jobs=BROKEN))
        for _ in range(3):
            work.complete(work.claim(4))
            assert work.tasks.fast_lane.state == pgflow.FastLaneState(on=False, reason=told)
    assert lines() == [f"the fast lane is off: {told}"]
    work.complete(work.claim(4))
    assert work.on
    assert lines() == [f"the fast lane is off: {told}", "the fast lane is on again"]
    assert admin.execute("select count(*), min(status) from pgflow.runs").fetchone() == (16, "completed")


def test_a_statement_of_its_own_that_somebody_cancels_turns_nothing_off(
    work: Work, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = "select pg_cancel_backend(pg_backend_pid()), pg_sleep(9) from (select %(runs)s::text[]) x"
    monkeypatch.setattr(wording, "statements_in", with_broken(complete_jobs=cancelled))
    work.complete(work.claim(4))
    assert (work.on, lines()) == (True, [])


def test_starts_that_fail_in_it_are_made_by_the_cores_function(
    database: str, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = with_broken(start="select 1/0 from (select %(run_ids)s::text[]) x")
    monkeypatch.setattr(wording, "statements_in", broken)
    with running(database, jobs=[job := echo_job()]) as starter:
        runs = starter.client.enqueue_many(job, range(20))
        assert [run.wait(WAIT).result for run in runs] == [*range(20)]
    assert [line for line in lines() if "22012" in line] == [
        "the fast lane is off: a statement of its own failed with 22012, the core's functions did it"
    ]


def test_a_job_that_was_started_before_it_was_there_is_known_for_one_then(database: str) -> None:
    fast_lane = FastLane(ManualClock())
    run_ids = [str(uuid4())]
    with Connection.connect(database, autocommit=True) as conn:
        assert fast_lane.start(conn, "echo", run_ids, ["1"], "run_id") == []
        compile_flow(conn, definition_of(echo_job()))
        found = fast_lane.starting(conn, "echo", run_ids, ["1"], "run_id")
    assert found is not None
    assert "run_ids" not in found[1]


def test_starts_that_it_leaves_to_the_cores_function_do_not_have_it_looked_at_anew(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = pgflow.Flow("squares")
    flow.map(slug="square")(lambda number, ctx: number * number)
    looks: list[Any] = []

    def look(conn: Connection) -> Any:
        looks.append(known_cores.look(conn))
        return looks[-1]

    monkeypatch.setattr(wording, "look", look)
    with pgflow.PgflowClient(database) as client:
        runs = [client.start_flow(flow, given) for given in ([1], [], [])]
        assert [run.refresh().status for run in runs] == ["started", "completed", "completed"]
        assert len(looks) == 1
        admin.execute(STRANGERS["a trigger"][0])
        client.start_flow(flow, [])
        client.start_flow(flow, [1])
        assert len(looks) == 2
    assert isinstance(looks[1], str)


def test_what_the_core_refuses_too_and_what_somebody_locks_turn_nothing_off(
    work: Work, admin: Admin, lines: Callable[[], list[str]]
) -> None:
    bad, locked, good = work.claim(3)
    with pytest.raises(DatabaseError) as raised:
        work.complete([bad], r'"\u0000"')
    assert raised.value.sqlstate == "22P05"
    outcomes = [Outcome(task, OutcomeKind.COMPLETED, "1") for task in (locked, good)]
    with admin.transaction():
        admin.execute("select from pgflow.step_states where run_id = %s for update", (locked.run_id,))
        assert list(work.tasks.settle(outcomes)) == outcomes[:1]
    work.complete([locked])
    assert (work.on, lines()) == (True, [])


def test_while_it_is_off_it_is_looked_at_now_and_then(database: str, admin: Admin) -> None:
    done, undone, _ = STRANGERS["a trigger"]
    clock = ManualClock()
    fast_lane = FastLane(clock)
    with Connection.connect(database, autocommit=True) as conn:
        admin.execute(done)
        assert fast_lane.core(conn) is None
        admin.execute(undone)
        clock.advance(LOOK_AGAIN / 2)
        assert fast_lane.core(conn) is None
        clock.advance(LOOK_AGAIN / 2)
        assert fast_lane.core(conn)


def test_a_look_that_was_overtaken_by_a_later_one_says_nothing(
    database: str, admin: Admin, lines: Callable[[], list[str]]
) -> None:
    done, undone, _ = STRANGERS["a trigger"]
    fast_lane = FastLane(ManualClock())
    with (
        Connection.connect(database, autocommit=True) as first,
        Connection.connect(database, autocommit=True) as second,
        Between(FastLane.core, "seen = self._wording_for(conn)", "with self._changing:") as between,
    ):
        admin.execute(done)
        overtaken = between.beside(partial(fast_lane.core, first))
        between.reached()
        admin.execute(undone)
        assert fast_lane.core(second)
        between.go_on()
        overtaken.join(WAIT)
        assert fast_lane.core(first)
    assert lines() == []


def test_a_look_during_which_it_was_found_to_be_another_core_counts_for_nothing(database: str, admin: Admin) -> None:
    done, _, why = STRANGERS["a trigger"]
    fast_lane = FastLane(ManualClock())
    with (
        Connection.connect(database, autocommit=True) as conn,
        Connection.connect(database, autocommit=True) as other,
        Between(FastLane.core, "seen = self._wording_for(conn)", "with self._changing:") as between,
    ):
        looking = between.beside(partial(fast_lane.core, other))
        between.reached()
        admin.execute(done)
        fast_lane.forget()
        between.go_on()
        looking.join(WAIT)
        assert fast_lane.core(conn) is None
    assert fast_lane.state == pgflow.FastLaneState(on=False, reason=why)


def test_by_the_setting_it_is_off(database: str) -> None:
    with running(database, jobs=[job := echo_job()], fast_lane="off") as starter:
        off = pgflow.FastLaneState(on=False, reason="by the setting")
        assert starter.status().fast_lane == off
        assert starter.client.enqueue(job, 1).wait(WAIT).result == 1
        assert starter.status().to_dict()["fast_lane"] == {"on": False, "reason": "by the setting"}
