"""Declaring flows and jobs: the decorators, their defaults and what they refuse where it is written."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

import pgflow_starter as pgflow
from pgflow_starter.testing import make_context


def handler(_input: Any, _ctx: Any) -> None:
    return None


def definition(module: Any) -> pgflow.FlowDefinition:
    found = module.__pgflow_definition__()
    assert isinstance(found, pgflow.FlowDefinition)
    return found


def test_the_flow_of_the_manual_is_what_it_says() -> None:
    order = pgflow.Flow("process_order", max_attempts=4, base_delay=6, timeout=61, max_concurrency=2)

    @order.step()
    def validate(order: Any, ctx: Any) -> Any:
        return {"order_id": order["order_id"]}

    @order.step(depends_on=["validate"], max_attempts=9, base_delay=0, timeout=5, start_delay=1)
    def charge(deps: Any, ctx: Any) -> Any:
        return [deps["validate"]]

    @order.map(array="charge", slug="each_charge")
    def each(item: Any, ctx: Any) -> Any:
        return item

    made = definition(order)
    assert (made.slug, made.max_attempts, made.base_delay, made.timeout) == ("process_order", 4, 6, 61)
    assert made.max_concurrency == 2
    assert made.kind is pgflow.ModuleType.FLOW
    assert made.steps == (
        pgflow.StepDefinition("validate", handler),
        pgflow.StepDefinition("charge", handler, pgflow.StepKind.SINGLE, ("validate",), 9, 0, 5, 1),
        pgflow.StepDefinition("each_charge", handler, pgflow.StepKind.MAP, ("charge",)),
    )
    assert [s.handler for s in made.steps] == [validate, charge, each]
    assert repr(order) == "Flow('process_order', steps=['validate', 'charge', 'each_charge'])"


def test_the_decorated_function_stays_a_function() -> None:
    flow = pgflow.Flow("shop")

    @flow.step()
    def double(number: int, ctx: Any) -> int:
        return 2 * number

    assert double(21, None) == 42


def test_a_map_without_an_array_goes_over_the_flows_input() -> None:
    flow = pgflow.Flow("shop")
    flow.map()(handler)
    (step,) = definition(flow).steps
    assert (step.slug, step.kind, step.depends_on) == ("handler", "map", ())


def test_a_job_is_a_flow_with_one_step_of_its_slug() -> None:
    @pgflow.job("send_email", max_attempts=5, base_delay=10, timeout=120, max_concurrency=3)
    def send_email(message: str, ctx: Any) -> str:
        return message.upper()

    made = definition(send_email)
    assert (made.slug, made.max_attempts, made.base_delay, made.timeout) == ("send_email", 5, 10, 120)
    assert (made.max_concurrency, made.kind) == (3, pgflow.ModuleType.JOB)
    assert [s.slug for s in made.steps] == ["send_email"]
    assert send_email("hello", make_context()) == "HELLO"
    assert send_email.slug == "send_email"
    assert repr(send_email) == "Job('send_email')"


def test_flows_and_jobs_have_the_same_defaults() -> None:
    flow = pgflow.Flow("a")
    flow.step()(handler)
    for made in (definition(flow), definition(pgflow.job("a")(handler))):
        assert (made.max_attempts, made.base_delay, made.timeout, made.max_concurrency) == (3, 5, 60, None)


def test_a_jobs_step_may_have_another_slug() -> None:
    made = definition(pgflow.job("send_email", step_slug="perform")(handler))
    assert (made.slug, made.steps[0].slug) == ("send_email", "perform")


def test_a_flow_without_steps_is_refused_when_it_is_asked_for() -> None:
    with pytest.raises(ValueError, match="flow 'shop' has no steps"):
        definition(pgflow.Flow("shop"))


@pytest.mark.parametrize("slug", ["Bad", "run", "", "a" * 48])
def test_bad_slugs_are_refused_where_they_are_declared(slug: str) -> None:
    with pytest.raises(ValueError, match="slug"):
        pgflow.Flow(slug)
    with pytest.raises(ValueError, match="job slug"):
        pgflow.job(slug)
    with pytest.raises(ValueError, match="step slug"):
        pgflow.job("good", step_slug=slug)
    with pytest.raises(ValueError, match="step slug"):
        pgflow.Flow("shop").step(slug)(handler)
    with pytest.raises(ValueError, match="step slug"):
        pgflow.Flow("shop").map(slug=slug)(handler)


def test_slugs_that_are_no_strings_are_type_errors_where_they_are_declared() -> None:
    number: Any = 3
    with pytest.raises(TypeError, match="flow slug must be a string, got int 3"):
        pgflow.Flow(number)
    with pytest.raises(TypeError, match="job slug must be a string"):
        pgflow.job(number)
    with pytest.raises(TypeError, match="step slug must be a string"):
        pgflow.job("good", step_slug=number)
    with pytest.raises(TypeError, match="step slug must be a string"):
        pgflow.Flow("shop").step(number)


def test_forgotten_parentheses_are_told_as_such() -> None:
    flow, undecorated = pgflow.Flow("shop"), cast("Any", handler)
    told: dict[Any, str] = {
        flow.step: r"@flow\.step\(\)",
        flow.map: r"@flow\.map\(\)",
        pgflow.job: r'@pgflow\.job\("handler"\)',
    }
    for declare, way in told.items():
        with pytest.raises(TypeError, match=rf"got <?function.* \(declare with parentheses: {way}\)$"):
            declare(undecorated)


def test_of_parentheses_is_spoken_to_nobody_who_did_not_forget_them() -> None:
    number, klass = cast("Any", 3), cast("Any", dict)
    declarations: list[Any] = [pgflow.Flow, pgflow.job, pgflow.Flow("shop").step, lambda n: pgflow.Flow(klass)]
    for declare in declarations:
        with pytest.raises(TypeError, match=r"slug must be a string, got \w+ [^(]*$"):
            declare(number)


def test_a_function_whose_name_is_no_slug_needs_one_given() -> None:
    flow = pgflow.Flow("shop")
    with pytest.raises(ValueError, match="step slug '<lambda>'"):
        flow.step()(lambda _input, _ctx: None)
    with pytest.raises(TypeError, match="step slug must be a string"):
        flow.step()(functools.partial(handler))
    flow.step("given")(functools.partial(handler))
    assert [s.slug for s in definition(flow).steps] == ["given"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"depends_on": ["nowhere"]}, "depends on unknown step 'nowhere'"),
        ({"slug": "first"}, "step 'first' is declared twice"),
        ({"depends_on": ["first", "first"]}, "names a dependency twice"),
        ({"max_attempts": 0}, "max_attempts must be from 1"),
        ({"timeout": 0}, "timeout must be from 1"),
        ({"base_delay": 1.5}, "base_delay must be an int"),
        ({"start_delay": -1}, "start_delay must be from 0"),
    ],
)
def test_a_bad_step_is_refused_where_it_is_declared_and_leaves_the_flow_as_it_was(
    options: dict[str, Any], told: str
) -> None:
    flow = pgflow.Flow("shop")
    flow.step("first")(handler)
    with pytest.raises(ValueError, match=told):
        flow.step(**options)(handler)
    assert [s.slug for s in definition(flow).steps] == ["first"]


def test_every_problem_of_a_declaration_is_named_at_once() -> None:
    flow = pgflow.Flow("shop")
    with pytest.raises(ValueError, match=r"step slug 'Bad'.*timeout.*unknown step 'x'.*unknown step 'y'"):
        flow.step("Bad", timeout=0, depends_on=["x", "y"])(handler)
    with pytest.raises(ValueError, match=r"flow slug 'Bad'.*max_attempts.*timeout"):
        pgflow.Flow("Bad", max_attempts=0, timeout=0)
    with pytest.raises(ValueError, match=r"job slug 'Bad'.*step slug 'Worse'.*max_attempts.*timeout"):
        pgflow.job("Bad", step_slug="Worse", max_attempts=0, timeout=0)


@pytest.mark.parametrize("depends_on", ["first", 3, [3]])
def test_dependencies_that_are_no_list_of_slugs_are_type_errors(depends_on: Any) -> None:
    flow = pgflow.Flow("shop")
    flow.step("first")(handler)
    with pytest.raises(TypeError, match="depends_on must"):
        flow.step(depends_on=depends_on)(handler)


def test_an_async_generator_function_is_refused_as_a_handler() -> None:
    async def send(_message: Any, _ctx: Any) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ValueError, match="'send': handler is an async generator function"):
        pgflow.job("send")(functools.partial(send))


def test_calling_a_job_of_an_async_handler_makes_its_coroutine() -> None:
    @pgflow.job("send")
    async def send(message: Any, ctx: Any) -> Any:
        return message, ctx

    ctx = make_context()
    assert asyncio.run(send(1, ctx)) == (1, ctx)


DOUBTFUL = ["_first", "last_", "mid__dle", "_"]


@pytest.mark.parametrize("slug", DOUBTFUL)
def test_a_slug_that_the_newest_cores_refuse_is_warned_of_where_it_is_declared(slug: str) -> None:
    flow = pgflow.Flow("shop")
    declarations: list[Any] = [
        lambda: pgflow.Flow(slug),
        lambda: flow.step(slug=slug)(handler),
        lambda: pgflow.Flow("shop").map(slug=slug)(handler),
        lambda: pgflow.job(slug),
        lambda: pgflow.job("shop", step_slug=slug),
    ]
    for declare in declarations:
        with pytest.warns(UserWarning, match=f"slug {slug!r} is refused by pgflow's cores from 0.17 on") as told:
            declare()
        assert [warning.filename for warning in told] == [__file__]
    assert [step.slug for step in definition(flow).steps] == [slug]


def test_a_single_underscore_between_is_warned_of_by_nobody() -> None:
    pgflow.Flow("process_order_2").step(slug="a_1")(handler)
    pgflow.job("send_email")(handler)
