"""The end of a starter that is a child: in order, in its time, and what comes after."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pykka
import pytest

import pgflow_starter as pgflow
from pgflow_starter.starter.child import Incarnations
from tests.starter.child_rig import NOWHERE, await_next, began, blocked, family, spec, tree
from tests.supervision.world import Journal
from tests.support.waiting import eventually


def test_a_tree_stops_in_order_and_running_tasks_may_end(database: str, journal: Journal) -> None:
    entered, release = threading.Event(), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> str:
        entered.set()
        assert release.wait(30)
        journal.add("task ended")
        return "done"

    with tree(*family(journal, spec(database, jobs=[slow]))) as app:
        starter = pgflow.starter_of(app.ref)
        run = starter.client.enqueue(slow, None)
        assert entered.wait(10)
        waiting, errors = blocked(partial(starter.await_ready, 10))
        stopping, _ = blocked(app.ref.stop)
        journal.await_entry("last stopped")
        eventually(lambda: stopped(starter))
        release.set()
        stopping.join(10)
        waiting.join(10)
        assert all(isinstance(e, pgflow.StarterStopped) for e in errors)
    assert journal.entries()[2:] == ["last stopped", "task ended", "first stopped"]
    with pgflow.PgflowClient(database) as client:
        assert client.run(run.id).result == "done"


def stopped(starter: pgflow.Starter) -> bool:
    try:
        starter.status()
    except pgflow.StarterStopped:
        return True
    return False


@pytest.mark.parametrize(
    ("settings", "patience"),
    [
        ({}, 30),
        ({"shutdown": math.inf}, 30),
        ({"shutdown": 100}, 30),
        ({"shutdown": 5}, 4),
        ({"shutdown": 5, "shutdown_timeout": 2}, 2),
        ({"shutdown": 0.5}, 0),
        ({"shutdown": 0}, 0),
    ],
)
def test_running_tasks_get_what_the_child_gets_less_a_second_to_give_them_back(
    settings: dict[str, Any], patience: float
) -> None:
    start = pgflow.child_spec(NOWHERE, **settings).start
    assert isinstance(start, Incarnations)
    assert start.patience == patience


@pytest.mark.parametrize(("shutdown", "abandoned"), [(1.1, 0), (0, 1)], ids=["a while", "no time"])
def test_what_does_not_end_in_time_is_given_back_for_another_to_run(
    database: str, shutdown: float, abandoned: int
) -> None:
    entered, release = threading.Event(), threading.Event()
    attempts: list[int] = []

    @pgflow.job("stubborn")
    def stubborn(message: Any, ctx: pgflow.TaskContext) -> int:
        attempts.append(ctx.attempt)
        entered.set()
        if len(attempts) == 1:
            assert release.wait(30)
        return len(attempts)

    with tree(spec(database, jobs=[stubborn], shutdown=shutdown)) as app:
        starter = pgflow.starter_of(app.ref)
        run = starter.client.enqueue(stubborn, None)
        assert entered.wait(10)
        app.call("terminate_child", "pgflow")
        assert app.call("count_children")["abandoned"] == abandoned
        app.call("restart_child", "pgflow")
        assert starter.client.run(run.id).wait(10).result == 2
        release.set()
    assert attempts == [1, 1]


def test_the_handle_s_stop_ends_an_incarnation_and_a_permanent_child_comes_again() -> None:
    with tree(spec()) as app:
        starter = pgflow.starter_of(app.ref)
        before = began(starter)
        starter.stop()
        await_next(starter, before)
        assert app.restarts() == {"pgflow": 1}


def test_a_transient_one_that_was_stopped_comes_again_when_it_is_asked_for() -> None:
    with tree(spec(restart="transient")) as app:
        starter = pgflow.starter_of(app.ref)
        proxy = starter.proxy()
        with starter:
            pass
        eventually(lambda: not app.children()["pgflow"].alive)
        for call in (starter.ready, lambda: proxy.ready().get(timeout=5)):
            with pytest.raises(pgflow.StarterTerminated, match="it was stopped, and its supervisor may start it again"):
                call()
        app.call("restart_child", "pgflow")
        assert starter.ready()
        assert proxy.ready().get(timeout=5)


def test_a_proxied_call_that_met_the_end_of_an_incarnation_says_so(
    monkeypatch: pytest.MonkeyPatch, give_up: Callable[[], None]
) -> None:
    entered, release = threading.Event(), threading.Event()

    def ready(self: pgflow.StarterActor) -> bool:
        entered.set()
        return release.wait(10)

    monkeypatch.setattr(pgflow.StarterActor, "ready", ready)
    with tree(spec()) as app:
        starter = pgflow.starter_of(app.ref)
        assert starter.proxy().healthy().get(timeout=5)  # its actor is there
        before, first = began(starter), starter.proxy().ready()
        assert entered.wait(10)
        giving_up, _ = blocked(give_up)
        (actor,) = pykka.ActorRegistry.get_by_class(pgflow.StarterActor)
        eventually(lambda: not actor.actor_inbox.empty())
        second = starter.proxy().healthy()  # behind its end
        release.set()
        giving_up.join(10)
        await_next(starter, before)
        assert first.get(timeout=5) is True
        with pytest.raises(pgflow.StarterTerminated):
            second.get(timeout=5)
