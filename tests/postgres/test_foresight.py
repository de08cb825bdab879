"""Looking at many flows at once: who is spared a look, and when what was seen does not count."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.compiled import Compiled
from pgflow_starter.postgres.stores import flows as flows_module
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.foresight import MAX_AGE, Foresight, Known
from pgflow_starter.postgres.stores.stored_flow import stored_flows
from pgflow_starter.testing import ManualTimers
from tests.support.database import NoScope, opened


def _definition(slug: str, *steps: str) -> pgflow.FlowDefinition:
    return pgflow.FlowDefinition(slug, tuple(pgflow.StepDefinition(s, lambda given, _: given) for s in steps or ("a",)))


def test_what_was_read_for_another_is_given_once() -> None:
    foresight: Foresight[str] = Foresight(ManualTimers().clock)
    assert foresight.take("a") is None
    foresight.put(["b", "c"], {"b": "there"}, 0.0)
    assert foresight.take("b") == Known("there", 0.0)
    assert foresight.take("b") is None
    assert foresight.take("c") == Known(None, 0.0)


def test_what_is_as_wanted_is_taken_and_anything_else_left() -> None:
    timers = ManualTimers()
    foresight: Foresight[int] = Foresight(timers.clock)
    foresight.put(["a", "b", "c"], {"a": 250, "c": 250}, timers.clock.monotonic())
    assert foresight.take_if("a", 250)
    assert not foresight.take_if("a", 250)
    assert not foresight.take_if("b", 250)
    assert not foresight.take_if("c", 100)
    timers.advance(MAX_AGE)
    assert not foresight.take_if("c", 250)


def test_what_was_read_too_long_ago_or_before_an_error_does_not_count() -> None:
    timers = ManualTimers()
    foresight: Foresight[str] = Foresight(timers.clock)
    foresight.put(["a", "b"], {"a": "there", "b": "there"}, timers.clock.monotonic())
    timers.advance(MAX_AGE)
    assert foresight.take("a") is None
    foresight.put(["b"], {"b": "there"}, timers.clock.monotonic())
    foresight.forget()
    assert foresight.take("b") is None


def test_flows_that_are_so_already_cost_one_look_together(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slugs = [f"f{i}" for i in range(5)]
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        for slug in slugs[:4]:
            store.compile(_definition(slug), NoScope())
            store.enable_notify(slug, 250, NoScope())
        looks: list[list[str]] = []
        look = stored_flows

        def counted(conn: psycopg.Connection[tuple[object, ...]], wanted: list[str]) -> object:
            looks.append(wanted)
            return look(conn, wanted)

        monkeypatch.setattr(flows_module, "stored_flows", counted)
        monkeypatch.setattr(pgmq, "enable_notify", None)
        verified = store.verify([_definition(slug) for slug in slugs], NoScope(), notify=True)
        assert sorted(verified) == slugs[:4]
        assert not any(compiled.created or compiled.differences for compiled in verified.values())
        assert looks == [slugs]
        assert [store.notifies(slug, 250) for slug in slugs] == [True] * 4 + [False]


def test_what_one_look_saw_of_a_flow_that_is_missing_spares_it_another(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        assert store.verify([_definition("f")], NoScope(), notify=True) == {}
        seen: list[object] = []
        compile_ = flows_module.create_or_verify

        def watched(*given: Any) -> Compiled:
            seen.append(given[2])
            return compile_(*given)

        monkeypatch.setattr(flows_module, "create_or_verify", watched)
        assert store.compile(_definition("f"), NoScope()).created
        assert seen == [None]


def test_another_shape_is_not_verified_and_is_refused_by_what_was_seen(database: str) -> None:
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        for slug in ("one", "two"):
            store.compile(_definition(slug, "a", "b"), NoScope())
        verified = store.verify([_definition("one", "a", "b"), _definition("two", "a")], NoScope(), notify=True)
        assert list(verified) == ["one"]
        with pytest.raises(pgflow.ShapeMismatchError, match="step 'b' is in the database only"):
            store.compile(_definition("two", "a"), NoScope())


def test_what_is_missing_is_named_although_it_was_there_a_moment_ago(database: str) -> None:
    with opened(database) as db, psycopg.connect(database, autocommit=True) as admin:
        store = PostgresFlowStore(db, SystemClock())
        store.compile(_definition("f"), NoScope())
        admin.execute("drop schema pgflow cascade")
        with pytest.raises(pgflow.NotInstalledError, match="the pgflow core is not installed"):
            store.compile(_definition("f"), NoScope())
