"""`FlowDefinition` and `StepDefinition`: what they accept, what they refuse and how they say so."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_starter import FlowDefinition, ModuleType, StepDefinition, StepKind
from pgflow_starter.core.rules import INT4_MAX, slug_problem


def handler(_input: Any, _ctx: Any) -> None:
    return None


async def generator(_input: Any, _ctx: Any) -> AsyncIterator[int]:
    yield 1


def step(slug: str, *depends_on: str, **options: Any) -> StepDefinition:
    return StepDefinition(slug, handler, depends_on=depends_on, **options)


def flow(*steps: StepDefinition, **options: Any) -> FlowDefinition:
    return FlowDefinition(options.pop("slug", "shop"), steps, **options)


# Slugs


@pytest.mark.parametrize("slug", ["a", "_", "a1", "_1", "process_order", "runs", "a" * 47])
def test_a_slug_of_lowercase_letters_digits_and_underscores_is_accepted(slug: str) -> None:
    assert flow(step(slug), slug=slug).slug == slug


@pytest.mark.parametrize(
    "slug", ["", "1a", "A", "aB", "a-b", "a b", "a.b", "é", "٣", "a٣", "a\n", "a" * 48, 'a"', "ß", "a\x00"]
)
def test_any_other_slug_is_refused_by_name_and_rule(slug: str) -> None:
    with pytest.raises(ValueError, match=r"lowercase letters, digits and '_'.*at most 47") as told:
        flow(step("a"), slug=slug)
    assert repr(slug) in str(told.value)
    with pytest.raises(ValueError, match=r"step slug.*lowercase letters"):
        flow(step(slug))


def test_run_is_reserved_by_pgflow() -> None:
    with pytest.raises(ValueError, match=r"flow slug 'run' is reserved.*step slug 'run' is reserved"):
        flow(step("run"), slug="run")


@pytest.mark.parametrize("slug", [None, 3, b"a", ["a"]])
def test_a_slug_that_is_no_string_is_a_type_error_naming_it(slug: Any) -> None:
    with pytest.raises(TypeError, match="flow slug must be a string") as told:
        flow(step("a"), slug=slug)
    assert repr(slug) in str(told.value)
    with pytest.raises(TypeError, match="step slug must be a string"):
        flow(step(slug))


@given(st.text(alphabet="abz09_A-é ", max_size=50))
def test_the_slug_rule_is_what_the_words_say(slug: str) -> None:
    right = 0 < len(slug) <= 47 and not slug[0].isdigit() and set(slug) <= set("abz09_")
    assert (slug_problem("slug", slug) is None) is right


# Options


def test_the_defaults_are_those_of_the_contract() -> None:
    made = flow(step("a"))
    assert (made.max_attempts, made.base_delay, made.timeout, made.max_concurrency) == (3, 5, 60, None)
    assert made.kind is None
    assert flow(step("a"), kind=ModuleType.JOB).kind is ModuleType.JOB
    assert made.timeout_of(made.steps[0]) == 60
    assert made.timeout_of(step("b", timeout=7)) == 7


OPTIONS = [("max_attempts", 1), ("base_delay", 0), ("timeout", 1), ("max_concurrency", 1)]
STEP_OPTIONS = [("max_attempts", 1), ("base_delay", 0), ("timeout", 1), ("start_delay", 0)]


@pytest.mark.parametrize(("name", "least"), OPTIONS)
def test_a_flow_option_is_an_int_within_its_bounds(name: str, least: int) -> None:
    assert getattr(flow(step("a"), **{name: least}), name) == least
    for bad in (least - 1, INT4_MAX, 1.5, "3", True, float("nan")):
        with pytest.raises(ValueError, match=f"flow 'shop': {name} must be"):
            flow(step("a"), **{name: bad})


@pytest.mark.parametrize("name", ["max_attempts", "base_delay", "timeout"])
def test_only_max_concurrency_may_be_left_open(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an int, got None"):
        flow(step("a"), **{name: None})


@pytest.mark.parametrize(("name", "least"), STEP_OPTIONS)
def test_a_step_option_is_an_int_within_its_bounds_or_none(name: str, least: int) -> None:
    assert getattr(flow(step("a", **{name: least})).steps[0], name) == least
    assert getattr(flow(step("a", **{name: None})).steps[0], name) is None
    for bad in (least - 1, INT4_MAX, 1.5, "3", True):
        with pytest.raises(ValueError, match=f"step 'a': {name} must be"):
            flow(step("a", **{name: bad}))


# Graphs


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([], "has no steps"),
        ([step("a"), step("a")], "step 'a' is declared twice"),
        ([step("a", "b")], "step 'a' depends on unknown step 'b'"),
        ([step("a"), step("b", "a", "a")], "step 'b' names a dependency twice"),
        ([step("a", "a")], "the dependencies of 'a' form a cycle"),
        ([step("a", "c"), step("b", "a"), step("c", "b")], "the dependencies of 'a', 'c', 'b' form a cycle"),
        (
            [step("a", kind=StepKind.MAP), step("b"), step("c", "a", "b", kind=StepKind.MAP)],
            "'c': a map step takes one",
        ),
        ([step("a", kind="loop")], "kind must be 'single' or 'map', got 'loop'"),
        (
            [StepDefinition("a", generator)],
            "'a': handler is an async generator function, and what it yields is no output",
        ),
        ([StepDefinition("a", "no function")], "'a': handler must be a function"),  # type: ignore[arg-type]
    ],
)
def test_a_graph_that_cannot_run_is_refused(steps: list[StepDefinition], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        flow(*steps)


def test_a_cycle_does_not_blame_the_steps_behind_it() -> None:
    with pytest.raises(ValueError, match="cycle") as told:
        flow(step("behind", "x"), step("root"), step("x", "y", "root"), step("y", "x"))
    assert "behind" not in str(told.value)
    assert "root" not in str(told.value)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ValueError, match="flow slug 'Shop'") as told:
        flow(step("1a", timeout=0), step("b", "z", max_attempts=0), step("b"), slug="Shop", base_delay=-1)
    for part in ("step slug '1a'", "base_delay", "timeout", "max_attempts", "unknown step 'z'", "declared twice"):
        assert part in str(told.value)


@pytest.mark.parametrize("depends_on", ["validate", None, 3, [1], [None]])
def test_dependencies_that_are_no_list_of_slugs_are_a_type_error(depends_on: Any) -> None:
    for kind in StepKind:
        with pytest.raises(TypeError, match="depends_on must"):
            flow(step("validate"), StepDefinition("b", handler, kind, depends_on))


def test_a_step_that_is_no_step_definition_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="must hold StepDefinition objects, got 'a'"):
        FlowDefinition("shop", ("a",))  # type: ignore[arg-type]


def test_dependencies_and_steps_may_come_from_any_iterable() -> None:
    second = StepDefinition("b", handler, depends_on=(name for name in ["a"]))  # type: ignore[arg-type]
    made = FlowDefinition("shop", iter([step("a"), second]))  # type: ignore[arg-type]
    assert [s.slug for s in made.steps] == ["a", "b"]
    assert made.steps[1].depends_on == ("a",)


def test_steps_come_after_their_dependencies_and_otherwise_as_declared() -> None:
    declared = (step("d", "b"), step("a"), step("b", "a"), step("c"))
    assert [s.slug for s in flow(*declared).steps] == ["a", "b", "c", "d"]
    sorted_already = (step("a"), step("b", "a"), step("c"), step("d", "b"))
    assert flow(*sorted_already).steps == sorted_already


@given(st.data())
def test_any_acyclic_graph_is_accepted_and_ordered(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    steps = [
        step(
            f"s{n}",
            *data.draw(st.lists(st.sampled_from([f"s{m}" for m in range(n)]), unique=True) if n else st.just([])),
        )
        for n in range(count)
    ]
    made = flow(*data.draw(st.permutations(steps)))
    placed: set[str] = set()
    for each in made.steps:
        assert placed.issuperset(each.depends_on)
        placed.add(each.slug)
    assert len(placed) == count


def test_a_definition_cannot_be_changed() -> None:
    made = flow(step("a"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.timeout = 5  # type: ignore[misc]
    assert made.step("a") is made.steps[0]
    assert made.step("b") is None
