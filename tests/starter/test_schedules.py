"""Schedules on a real database: each tick once, whoever starts it; and what is made up for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from pgflow_starter import Schedule
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from pgflow_starter.starter.schedules import ClientStarter
from tests.scheduling.rig import Rig, SetClock, ticks_at
from tests.support.databases import FAST, memory_folder
from tests.support.proxy import Proxy
from tests.support.starters import echo_job, opened, running
from tests.support.waiting import eventually

WAIT = 30.0


@pytest.fixture
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server that can be reached by way of a proxy."""
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


def runs_in(database: str) -> set[UUID]:
    with psycopg.connect(database) as connection:
        return {row[0] for row in connection.execute("select run_id from pgflow.runs")}


@contextmanager
def scheduled(conninfo: str, clock: SetClock, *schedules: Schedule) -> Iterator[Rig]:
    """A scheduler whose time is the test's, over the parts of a starter on a real database."""
    with opened(conninfo) as (starter, runtime), ExitStack() as ends:
        parts = runtime.parts
        eventually(lambda: starter.status().outage is None, WAIT)
        rig = Rig(
            *schedules, database=ClientStarter(parts), clock=clock, away=lambda: parts.database.outage is not None
        )
        ends.callback(rig.stop)
        parts.database.watch(rig.board.database_back)
        yield rig


def test_two_starters_start_each_tick_once_and_run_it(database: str) -> None:
    job = echo_job()
    schedules = [Schedule("* * * * * *", job, {"a": 1}), Schedule("0 0 1 1 *", "not_here")]
    began = SystemClock().now()
    with running(database, jobs=[job], schedules=schedules) as one:
        assert [child.id for child in one.which_children() if child.parent == "root"][-2:] == ["scheduler", "starter"]
        with running(database, jobs=[job], schedules=schedules, lazy=True) as other:
            both = (one, other)
            seen = set[tuple[str, UUID]]()

            def look() -> bool:
                for starter in both:
                    state = starter.status().schedules[0]
                    if state.last_run_id is not None:
                        seen.add((str(state.last_result), state.last_run_id))
                return {"started", "there already"} <= {result for result, _ in seen}

            eventually(look, WAIT, "a tick of each result")
            for _, run_id in seen:
                run = one.client.run(run_id).wait(WAIT)
                assert (run.status, run.input, run.result) == ("completed", {"a": 1}, {"a": 1})
        state = one.status().schedules[1]
        assert (state.name, state.last_tick, state.last_result) == ("not_here", None, None)
        assert state.next_at is not None
    seconds = range(-60, 600)
    known = {schedules[0].run_id(began + timedelta(seconds=s)) for s in seconds}
    assert {run_id for _, run_id in seen} <= runs_in(database) <= known


def test_after_an_outage_as_much_is_made_up_for_as_was_wanted(own_server: EmbeddedPostgres) -> None:
    job, clock, direct = echo_job(), SetClock(), own_server.conninfo()
    none, last, every = (Schedule("* * * * *", job, name=policy, catch_up=policy) for policy in ("none", "last", "all"))
    with (
        Proxy(own_server) as proxy,
        scheduled(proxy.conninfo(), clock, none, last, every) as one,
        scheduled(proxy.conninfo(), clock, none, last, every) as other,
    ):
        both = one, other

        def expected(*made_up_for: int, more: Sequence[int] = ()) -> set[UUID]:
            """The runs of the tick before the outage, of what is made up for by the last one and all, and of these."""
            each = {run_id for schedule in (none, last, every) for run_id in ticks_at(one, schedule, 60, *more)}
            return each | ticks_at(one, last, *made_up_for[-1:]) | ticks_at(one, every, *made_up_for)

        one.advance(60)
        other.advance(0)
        assert runs_in(direct) == expected()
        proxy.refuse()
        proxy.cut()
        one.advance(60)  # nobody else would notice
        other.advance(0)
        eventually(lambda: not any(rig.reachable for rig in both), WAIT, "the outage")
        one.advance(210)
        other.advance(0)
        assert runs_in(direct) == expected()
        proxy.accept()
        eventually(lambda: runs_in(direct) == expected(120, 180, 240, 300), WAIT, "what is made up for")
        eventually(lambda: all(rig.reachable for rig in both), WAIT, "the end of the outage")
        for rig in both:
            rig.settle()
        one.advance(30)
        other.advance(0)
        assert runs_in(direct) == expected(120, 180, 240, 300, more=[360])


def test_what_all_starters_missed_is_told_by_each_and_what_one_has_started_by_none(database: str) -> None:
    clock, schedule = SetClock(), Schedule("* * * * *", echo_job())
    clock.advance(30)
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(WAIT)
    with psycopg.connect(database) as connection:
        connection.execute("update pgflow.flows set created_at = %s", (clock.now() - timedelta(days=9),))
    with scheduled(database, clock, schedule) as one, scheduled(database, clock, schedule) as other:
        one.advance(300)
        other.advance(0)  # it was paused for all of it
        other.advance(5)
        assert (one.state.missed, other.state.missed) == (None, None)
        clock.advance(180)  # both are
        for rig in (one, other):
            rig.advance(0)
            rig.advance(5)
            assert rig.state.missed is not None
            assert (rig.state.missed.count, rig.state.missed.first) == (3, one.board.began + timedelta(seconds=330))


def test_a_new_starter_makes_up_for_what_was_due_since_the_flow_was_there_and_not_for_what_is_known(
    database: str,
) -> None:
    job, clock = echo_job(), SetClock()
    schedule = Schedule("* * * * *", job, catch_up="all", catch_up_within=86_400)
    with scheduled(database, clock, schedule) as before:
        before.advance(120)
    assert len(runs_in(database)) == 2
    clock.advance(200)
    with scheduled(database, clock, schedule):
        assert len(runs_in(database)) == 2  # by the database's clock the flow came later
    with psycopg.connect(database) as connection:
        connection.execute("update pgflow.flows set created_at = %s", (clock.now() - timedelta(days=9),))
    with scheduled(database, clock, schedule):
        assert runs_in(database) == ticks_at(before, schedule, 60, 120, 180, 240, 300)
    with psycopg.connect(database) as connection:
        connection.execute("update pgflow.flows set created_at = 'infinity'")
    clock.advance(60)
    with scheduled(database, clock, schedule):
        assert len(runs_in(database)) == 5


def test_a_flow_that_is_not_in_the_database_is_waited_for(database: str) -> None:
    schedule, clock = Schedule("* * * * *", "echo"), SetClock()
    with scheduled(database, clock, schedule) as rig:
        rig.advance(60)
        assert str(rig.state.last_result) == "failed"
        assert rig.state.last_error == (
            "flow 'echo' is not in the database: start a starter that has it, or check the slug"
        )
        with running(database, jobs=[echo_job()]) as starter:
            starter.await_ready(WAIT)
        rig.advance(3)
        assert runs_in(database) == ticks_at(rig, schedule, 60)


def test_a_starter_without_schedules_has_no_scheduler(database: str) -> None:
    with running(database) as starter:
        assert starter.status().schedules == ()
        assert "scheduler" not in [child.id for child in starter.which_children()]


def test_the_next_tick_is_known_before_anything_runs() -> None:
    with running("host=127.0.0.1 port=1", schedules=[Schedule("0 0 1 1 *", "shop")]) as starter:
        (state,) = starter.status().schedules
        assert state.next_at is not None
        assert state.next_at > SystemClock().now()
