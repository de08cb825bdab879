"""A starter among other children: which of them are restarted with it, and it with which."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import pgflow_starter as pgflow
from tests.starter.child_rig import await_next, began, blocked, family, spec, tree
from tests.supervision.world import Journal
from tests.support.starters import echo_job
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        ("one_for_one", {"first": 0, "pgflow": 1, "last": 0}),
        ("one_for_all", {"first": 1, "pgflow": 1, "last": 1}),
        ("rest_for_one", {"first": 0, "pgflow": 1, "last": 1}),
    ],
)
def test_who_is_restarted_with_a_starter_that_gave_up(
    strategy: str, restarted: dict[str, int], give_up: Callable[[], None], journal: Journal
) -> None:
    with tree(*family(journal, spec()), strategy=strategy) as app:
        starter = pgflow.starter_of(app.ref)
        before = began(starter)
        give_up()
        await_next(starter, before)
        assert app.restarts() == restarted


@pytest.mark.parametrize(
    ("strategy", "dies", "restarted"),
    [
        ("one_for_all", "last", {"first": 1, "pgflow": 1, "last": 1}),
        ("rest_for_one", "first", {"first": 1, "pgflow": 1, "last": 1}),
    ],
)
def test_a_starter_that_is_restarted_for_another_s_death_is_stopped_in_order(
    database: str, strategy: str, dies: str, restarted: dict[str, int], journal: Journal
) -> None:
    entered, release = threading.Event(), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> str:
        entered.set()
        assert release.wait(30)
        journal.add("task ended")
        return "done"

    with tree(*family(journal, spec(database, jobs=[slow])), strategy=strategy) as app:
        starter = pgflow.starter_of(app.ref)
        run = starter.client.enqueue(slow, None)
        assert entered.wait(10)
        before = began(starter)
        waiting, errors = blocked(partial(run.wait, None))
        app.kill(dies)
        eventually(lambda: began(starter) is None)
        release.set()
        await_next(starter, before)
        waiting.join(10)
        # In the incarnation that it was asked of it was done, or that had ended first.
        assert all(isinstance(e, pgflow.StarterTerminated) for e in errors)
        assert starter.client.run(run.id).wait(10).result == "done"
        assert app.restarts() == restarted
    ended = [e for e in journal.entries() if not e.endswith("started")]
    assert ended.count("task ended") == 1
    assert ended[-2:] == ["last stopped", "first stopped"]


def test_a_blocked_call_is_told_that_the_starter_was_stopped_to_be_restarted(journal: Journal) -> None:
    with tree(*family(journal, spec(jobs=[echo_job()])), strategy="one_for_all") as app:
        starter = pgflow.starter_of(app.ref)
        waiting, errors = blocked(partial(starter.await_ready, None))
        app.kill("last")
        waiting.join(10)
        assert [type(e) for e in errors] == [pgflow.StarterTerminated]
        assert "its supervisor may start it again" in str(errors[0])
