"""Conditions as they are declared: kept so that nobody changes them, and refused where they are written."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.definition import conditions_of


def handler(_input: Any, _ctx: Any) -> None:
    return None


def step(**conditions: Any) -> pgflow.StepDefinition:
    return pgflow.StepDefinition("gift", handler, **conditions)


def declared(**conditions: Any) -> pgflow.StepDefinition:
    flow = pgflow.Flow("shop")
    flow.step(slug="gift", **conditions)(handler)
    return flow.__pgflow_definition__().steps[0]


def test_a_step_without_conditions_has_none() -> None:
    assert conditions_of(declared()) == {}
    assert declared() == declared(if_=None, if_not=None, when_unmet="skip", when_exhausted="fail")


def test_steps_and_maps_take_the_words_of_pgflow() -> None:
    flow = pgflow.Flow("shop")
    flow.step(slug="gift", if_={"vip": True}, when_unmet="fail", when_exhausted="skip")(handler)
    flow.map("gift", slug="each", if_not={"gift": []}, when_unmet="skip-cascade", when_exhausted="skip-cascade")(
        handler
    )
    gift, each = flow.__pgflow_definition__().steps
    assert conditions_of(gift) == {"if_": '{"vip": true}', "when_unmet": "fail", "when_exhausted": "skip"}
    assert conditions_of(each) == {
        "if_not": '{"gift": []}',
        "when_unmet": "skip-cascade",
        "when_exhausted": "skip-cascade",
    }


def test_nobody_changes_a_pattern_afterwards() -> None:
    pattern: dict[str, Any] = {"tags": ["new"]}
    made = step(if_=pattern)
    pattern["tags"].append("old")
    assert made == step(if_={"tags": ["new"]})
    assert json.loads(made.if_) == {"tags": ["new"]}
    assert dataclasses.replace(made, timeout=5).if_ == made.if_
    assert hash(made) == hash(step(if_={"tags": ["new"]}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1.0}),
        (1e16, 10**16),
        (1e23, 10**23),
        (-1.5e300, -15 * 10**299),
        (-0.0, 0),
        ((1, 2), [1, 2]),
    ],
)
def test_what_jsonb_calls_equal_is_one_pattern(one: object, other: object) -> None:
    assert step(if_={"k": one}) == step(if_={"k": other})


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"a": True}), ([1, 2], [2, 1]), ("1", 1), (0.5, 0.25), ([[]], [{}]), (False, 0), ("true", True)],
)
def test_what_jsonb_tells_apart_are_two(one: object, other: object) -> None:
    assert step(if_not={"k": one}) != step(if_not={"k": other})


def test_an_empty_object_is_a_pattern_too() -> None:
    assert conditions_of(declared(if_={})) == {"if_": "{}"}


@pytest.mark.parametrize("pattern", [False, 0, "vip", [], [{}]])
def test_what_is_no_object_is_refused_as_by_the_core(pattern: object) -> None:
    with pytest.raises(ValueError, match="step 'gift': if_not must be an object") as refused:
        declared(if_not=pattern)
    assert str(refused.value).endswith(f"got {pattern!r}")


def test_everything_that_is_wrong_is_told_at_once_and_where_it_is_declared() -> None:
    with pytest.raises(ValueError, match="gift") as refused:
        declared(if_={"a": {1}}, if_not={"a": float("nan")}, when_unmet="cascade", when_exhausted=None)
    assert str(refused.value).split("; ") == [
        "step 'gift': if_['a'] is a set, which is not JSON",
        "step 'gift': if_not['a'] is nan, which JSON cannot express",
        "step 'gift': when_unmet must be one of 'skip', 'skip-cascade', 'fail', got 'cascade'",
        "step 'gift': when_exhausted must be one of 'fail', 'skip', 'skip-cascade', got None",
    ]
    with pytest.raises(ValueError, match="is a set"):
        pgflow.FlowDefinition("shop", (step(if_={1}),))


@pytest.mark.parametrize("word", ["fail", "skip-cascade"])
def test_what_becomes_of_an_unmet_condition_needs_one(word: str) -> None:
    with pytest.raises(ValueError, match=f"when_unmet is '{word}', but there is neither if_ nor if_not"):
        declared(when_unmet=word)


def test_a_job_may_start_later() -> None:
    job = pgflow.job("mail", start_delay=7)(handler)
    assert job.__pgflow_definition__().steps[0].start_delay == 7
    with pytest.raises(ValueError, match="job 'mail': start_delay must be from 0"):
        pgflow.job("mail", start_delay=-1)
