"""Looking at many flows at once: who is spared a look, and when what was seen does not count."""

from __future__ import annotations

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres import flows as flows_module
from pgflow_starter.postgres import pgmq
from pgflow_starter.postgres.flows import PostgresFlowStore
from pgflow_starter.postgres.foresight import MAX_AGE, Foresight, Known
from pgflow_starter.testing import ManualTimers
from tests.support.database import NoScope, opened


def _definition(slug: str, *steps: str) -> pgflow.FlowDefinition:
    return pgflow.FlowDefinition(slug, tuple(pgflow.StepDefinition(s, lambda given, _: given) for s in steps or ("a",)))


def test_what_was_read_for_another_is_given_once() -> None:
    foresight: Foresight[str] = Foresight(ManualTimers().clock)
    for slug in ("a", "b", "c"):
        foresight.expect(slug)
    assert foresight.take("a") is None
    assert foresight.to_read() == ["b", "c"]
    assert foresight.to_read() == []
    foresight.put(["b", "c"], {"b": "there"}, 0.0)
    assert foresight.take("b") == Known("there", 0.0)
    assert foresight.take("b") is None
    assert foresight.take("c") == Known(None, 0.0)


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
        for slug in slugs:
            store.compile(_definition(slug), NoScope())
            store.enable_notify(slug, 250, NoScope())
        looks: list[list[str]] = []
        look = flows_module._stored

        def counted(conn: psycopg.Connection[tuple[object, ...]], wanted: list[str]) -> object:
            looks.append(wanted)
            return look(conn, wanted)

        monkeypatch.setattr(flows_module, "_stored", counted)
        monkeypatch.setattr(pgmq, "enable_notify", None)
        for slug in slugs:
            store.expect(slug, notify=True)
        for slug in slugs[1:]:
            assert not store.compile(_definition(slug), NoScope()).created
            store.enable_notify(slug, 250, NoScope())
        assert [sorted(wanted) for wanted in looks] == [slugs]


def test_another_shape_is_refused_by_what_was_read_for_another(database: str) -> None:
    with opened(database) as db:
        store = PostgresFlowStore(db, SystemClock())
        for slug in ("one", "two"):
            store.compile(_definition(slug, "a", "b"), NoScope())
            store.expect(slug, notify=False)
        store.compile(_definition("one", "a", "b"), NoScope())
        with pytest.raises(pgflow.ShapeMismatchError, match="step 'b' is in the database only"):
            store.compile(_definition("two", "a"), NoScope())


def test_what_is_missing_is_named_although_it_was_there_a_moment_ago(database: str) -> None:
    with opened(database) as db, psycopg.connect(database, autocommit=True) as admin:
        store = PostgresFlowStore(db, SystemClock())
        store.compile(_definition("f"), NoScope())
        admin.execute("drop schema pgflow cascade")
        with pytest.raises(pgflow.NotInstalledError, match="the pgflow core is not installed"):
            store.compile(_definition("f"), NoScope())
