"""The pruner: its rhythm, and what it says; and in a starter, that old runs go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.errors import DatabaseError, MissingRightsError, PgflowError
from pgflow_starter.ports import Pruning
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.testing import ManualClock, ManualTimers
from pgflow_starter.worker import pruner_actor
from pgflow_starter.worker.pruner_actor import LATER, SOON, Prune, PrunerActor
from tests.support.old_runs import left, make_runs
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

WAIT = 30.0


class Database:
    """What a pruner finds, one time through all runs after the other."""

    def __init__(self, *times: Callable[[Database], Pruning]) -> None:
        self.clock, self.times, self.closed = ManualClock(), list(times), 0

    def pruning(self) -> Pruning:
        return self.times.pop(0)(self)


def batches(*seconds: float, end: int | None = 0) -> Callable[[Database], Pruning]:
    """Of seven runs, each of which takes so long."""

    def pruning(database: Database) -> Pruning:
        try:
            for took in seconds:
                database.clock.advance(took)
                yield 7
        except GeneratorExit:
            database.closed += 1
            raise
        return end

    return pruning


def refused(error: PgflowError) -> Callable[[Database], Pruning]:
    def pruning(_: Database) -> Pruning:
        raise error
        yield

    return pruning


class Pruner(PrunerActor):
    """Notes when it is to go on."""

    def __init__(self, database: Database) -> None:
        self.shutdown, self.pauses = Shutdown(), list[float]()
        super().__init__(database.pruning, database.clock, ManualTimers(), self.shutdown)

    def again(self, delay: float, message: object) -> None:
        self.pauses.append(delay)

    def told(self, times: int) -> list[float]:
        """How long it pauses after each time that it was told to prune."""
        self.pauses.clear()
        for _ in range(times):
            self.on_receive(Prune())
        return self.pauses


def test_it_pauses_nine_times_as_long_as_each_batch_took() -> None:
    pruner = Pruner(Database(batches(0.1, 0.5, 0.02)))
    pruner.on_start()
    assert pruner.pauses == [SOON]
    assert pruner.told(4) == [pytest.approx(0.9), pytest.approx(4.5), pytest.approx(0.18), LATER]


@pytest.mark.parametrize(("end", "pause"), [(0, LATER), (3, SOON), (None, LATER)], ids=("done", "left", "elsewhere"))
def test_it_comes_back_sooner_where_something_was_left(end: int | None, pause: float) -> None:
    assert Pruner(Database(batches(end=end))).told(1) == [pause]


def test_what_is_refused_is_said_once_with_its_remedy_until_it_goes_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pgflow_starter.housekeeping")
    lacking = refused(MissingRightsError("no DELETE on table pgflow.runs: GRANT DELETE"))
    away = refused(DatabaseError("gone", connection_lost=True))
    pruner = Pruner(Database(lacking, lacking, batches(0.1), away, lacking))
    assert pruner.told(6) == [SOON, SOON, pytest.approx(0.9), LATER, SOON, SOON]
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "pruning: no DELETE on table pgflow.runs: GRANT DELETE"),
        ("INFO", "7 finished runs were deleted"),
        ("INFO", "pruning goes well again"),
        ("WARNING", "pruning: no DELETE on table pgflow.runs: GRANT DELETE"),
    ]


def test_it_lets_the_connection_go_and_begins_nothing_once_the_starter_stops() -> None:
    database = Database(batches(0.1, 0.1))
    pruner = Pruner(database)
    pruner.told(1)
    pruner.shutdown.begin(0.0)
    assert pruner.told(1) == []
    pruner.on_stop()
    assert database.closed == 1


def children(starter: pgflow.Starter) -> set[str]:
    return {child.id for child in starter.which_children()}


def test_a_starter_with_a_retention_prunes_and_one_without_has_nobody_for_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruner_actor, "SOON", 0.05)
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(WAIT)
        assert "pruner" not in children(starter)
    with psycopg.connect(database, autocommit=True) as admin:
        make_runs(admin, 501)
        kept = make_runs(admin, 3, days=2)
        with running(database, jobs=[echo_job()], retention=pgflow.Retention()) as starter:
            assert "pruner" in children(starter)
            eventually(lambda: left(admin)["pgflow.runs"] == 3, WAIT, "the end of the old runs")
            assert starter.client.run(kept[0]).finished
            assert starter.client.enqueue("echo", 7).wait(WAIT).result == 7


def test_a_run_with_the_id_of_one_that_was_deleted_has_an_input_of_its_own(database: str) -> None:
    flow, seen = pgflow.Flow("twice"), list[Any]()
    flow.step(slug="items")(lambda given, ctx: [1])

    @flow.map(array="items")
    def each(item: int, ctx: pgflow.TaskContext) -> None:
        seen.append(ctx.flow_input)

    with running(database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, "first").wait(WAIT)
        starter.client.delete(run.id)
        with pytest.raises(pgflow.RunNotFoundError):
            run.refresh()
        starter.client.start_flow(flow, "second", run_id=run.id).wait(WAIT)
    assert seen == ["first", "second"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"retention": timedelta(days=30)}, "retention must be a Retention or None"),
        ({"retention": pgflow.Retention(), "pool_size": 1}, "pool_size must be at least 2 with a retention"),
    ],
    ids=("no_retention", "one_connection"),
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        pgflow.start("dbname=shop", **settings)
