"""A step that another runtime added: its tasks are given back to whoever has it, and told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.evidence import Evidence
from pgflow_starter.core.task import Claimed
from pgflow_starter.core.trouble import LASTING, Trouble, TroubleKind
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.testing import ManualTimers
from pgflow_starter.worker import unknown_steps
from pgflow_starter.worker.claim_troubles import ClaimTroubles
from pgflow_starter.worker.troubles import Troubles
from pgflow_starter.worker.unknown_steps import UnknownSteps
from tests.neighbours.other_runtime import Admin, OtherWorker
from tests.support.starters import STRATEGIES, running
from tests.support.waiting import eventually

WAIT = 20.0


def _shop() -> pgflow.Flow:
    flow = pgflow.Flow("shop", max_attempts=1)
    flow.step(slug="order")(lambda given, ctx: "ours")
    return flow


class World:
    """What `UnknownSteps` has of a worker's world, its threads those who advance the timers."""

    def __init__(self) -> None:
        self.timers, self.threads, self.looks = ManualTimers(), self, 0
        self.while_looking: Callable[[], object] = lambda: None
        self.clock = self.timers.clock
        log = ModuleLog(logging.getLogger("x"), "x", "x")
        self.troubles = Troubles(self.clock, self.timers, log, lambda: None, lambda: False)

    def run(self, call: Callable[[], object]) -> None:
        call()

    def differences(self, definition: object) -> list[str]:
        self.looks += 1
        self.while_looking()
        return ["another"]


def _trouble(starter: pgflow.Starter) -> Trouble | None:
    (worker,) = starter.workers()
    return worker.trouble


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if "unknown_step" in record.getMessage()]


def _task(admin: Admin, run: pgflow.Run, step: str) -> tuple[Any, ...] | None:
    return admin.execute(
        "select status, attempts_count from pgflow.step_tasks where run_id = %s and step_slug = %s", (run.id, step)
    ).fetchone()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_its_tasks_are_given_back_said_once_and_done_by_who_has_it(
    database: str, admin: Admin, strategy: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_steps, "RECHECK", 0.05)
    flow = _shop()
    with running(database, flows=[flow], signal_strategy=strategy) as starter:
        starter.await_ready(WAIT)
        admin.execute("select count(*) from pgflow.add_step('shop', 'gift')")
        runs = [starter.client.start_flow(flow) for _ in range(3)]
        trouble = eventually(lambda: _trouble(starter), WAIT)
        assert trouble is not None
        assert (trouble.kind, trouble.scope) == ("unknown_step", "some")
        assert "'gift'" in trouble.reason
        assert "in the database only" in trouble.reason
        assert "deploy the code that has it" in trouble.reason
        for run in runs:
            eventually(lambda r=run: _task(admin, r, "order") == ("completed", 1), WAIT)  # type: ignore[misc]
            eventually(lambda r=run: _task(admin, r, "gift") == ("queued", 0), WAIT)  # type: ignore[misc]
        assert starter.ready()
        other = OtherWorker(admin, "shop")
        admin.execute("update pgmq.q_shop set vt = now()")
        done: list[Any] = []
        eventually(lambda: len(_done(admin, other, done)) == 3, WAIT)
        assert [run.wait(WAIT).output for run in runs] == [{"order": "ours", "gift": "theirs"}] * 3
        told = [r for r in caplog.records if "unknown_step" in r.getMessage()]
        assert [r.levelname for r in told] == ["WARNING"]


def _done(admin: Admin, other: OtherWorker, done: list[Any]) -> list[Any]:
    """All that the other worker has done so far; what ours took before it is visible again."""
    tasks = other.claim()
    other.complete(tasks)
    done += tasks
    admin.execute(
        "update pgmq.q_shop q set vt = now() where exists (select from pgflow.step_tasks t where"
        " t.message_id = q.msg_id and t.status = 'queued')"
    )
    return done


def test_once_met_its_messages_are_left_to_who_has_the_step_however_many_come(database: str, admin: Admin) -> None:
    flow = _shop()
    with running(database, flows=[flow], batch_size=2) as starter:
        starter.await_ready(WAIT)
        admin.execute("select count(*) from pgflow.add_step('shop', 'gift')")
        starter.client.start_flow(flow)
        eventually(lambda: _trouble(starter), WAIT)
        for run in starter.client.start_flows(flow, [{}] * 20):
            eventually(lambda r=run: _task(admin, r, "order") == ("completed", 1), WAIT)  # type: ignore[misc]
            assert _task(admin, run, "gift") == ("queued", 0)
        assert len(OtherWorker(admin, "shop").claim()) == 21
        untouched = admin.execute("select count(*) from pgmq.q_shop where read_ct = 1").fetchone()
        assert untouched == (20,)


def test_the_trouble_is_over_when_the_shapes_match_again(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unknown_steps, "RECHECK", 0.05)
    flow = _shop()
    caplog.set_level("INFO", "pgflow_starter")
    with running(database, flows=[flow]) as starter:
        starter.await_ready(WAIT)
        admin.execute("select count(*) from pgflow.add_step('shop', 'gift')")
        starter.client.start_flow(flow)
        eventually(lambda: _trouble(starter), WAIT)
        with admin.transaction():
            admin.execute(
                "delete from pgmq.q_shop q using pgflow.step_tasks t"
                " where t.message_id = q.msg_id and t.step_slug = 'gift'"
            )
            for table in ("step_tasks", "step_states", "steps"):
                admin.execute(f"delete from pgflow.{table} where step_slug = 'gift'")
        eventually(lambda: _trouble(starter) is None, WAIT)
        eventually(lambda: _told(caplog) == ["WARNING", "INFO"], WAIT)  # the line comes after the change
        assert starter.client.start_flow(flow).wait(WAIT).output == {"order": "ours"}


@pytest.mark.parametrize("in_a_look", [False, True])
def test_when_its_worker_has_stopped_nobody_looks_any_more(in_a_look: bool) -> None:
    world = World()
    unknown = UnknownSteps(cast("Any", None), cast("Any", world), world.troubles)
    if in_a_look:
        world.while_looking = unknown.forget
    unknown.met({"gift"})
    assert (world.troubles.current is None, world.looks) == (in_a_look, 1)
    unknown.forget()
    world.timers.advance(10 * unknown_steps.RECHECK)
    assert world.looks == 1
    world.while_looking = lambda: None
    unknown.met({"gift"})
    world.timers.advance(unknown_steps.RECHECK)
    assert world.looks == 3


@pytest.mark.parametrize("unknown", [True, False])
def test_messages_that_are_left_to_others_are_not_taken_for_locked(unknown: bool) -> None:
    world = World()
    claims = ClaimTroubles("shop", world.troubles, world.clock, lambda: False)
    if unknown:
        UnknownSteps(cast("Any", None), cast("Any", world), world.troubles).met({"gift"})
    for _ in range(3):
        world.timers.advance(LASTING)
        claims.judge(Claimed(0, ()))
        claims.heed(Evidence(queued=1, overdue=1, whole=True))
    assert (world.troubles.of(TroubleKind.LOCKED) is None) is unknown
