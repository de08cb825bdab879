"""What a flow is started with, checked against what the handlers of its first steps take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.inputs import Inputs


@dataclass
class Order:
    id: int


@dataclass
class Invoice:
    number: str


class Line(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    pieces: int = pydantic.Field(alias="howMany")

    @pydantic.computed_field
    def doubled(self) -> int:
        return 2 * self.pieces


@pgflow.job("mail")
def mail(order: Order, ctx: Any) -> None: ...


@pgflow.job("pack", step_slug="packing")
def pack(line: Line, ctx: Any) -> None: ...


def shop() -> pgflow.Flow:
    """Two steps get the input, one its elements; what comes after them gets something else."""
    flow = pgflow.Flow("shop")
    flow.step("plain")(lambda order, ctx: None)
    flow.step("typed")(mail.handler)
    flow.step("after", depends_on=["typed"])(pack.handler)
    return flow


def lines() -> pgflow.Flow:
    flow = pgflow.Flow("lines")
    flow.map(slug="each")(pack.handler)
    return flow


def text(module: Any, value: Any, what: str = "input") -> str:
    return Inputs(module.__pgflow_definition__()).text(value, what)


@pytest.mark.parametrize(
    ("module", "given", "sent"),
    [
        (mail, Order(7), '{"id":7}'),
        (mail, {"id": 7, "more": 1}, '{"id":7,"more":1}'),
        (shop(), Order(7), '{"id":7}'),
        (pack, Line(howMany=2), '{"howMany":2}'),
        (pack, {"howMany": "2"}, '{"howMany":"2"}'),
        (lines(), [Line(howMany=2), {"howMany": 3}], '[{"howMany":2},{"howMany":3}]'),
        (lines(), [], "[]"),
    ],
    ids=str,
)
def test_an_instance_is_sent_as_json_and_json_as_it_is(module: Any, given: Any, sent: str) -> None:
    assert text(module, given) == sent


@pytest.mark.parametrize(
    ("module", "given", "told"),
    [
        (mail, {"id": "hunter2"}, "job 'mail': input does not fit Order: input.id: expected int, got str"),
        (mail, Invoice("hunter2"), "job 'mail': input does not fit Order: input.id: is missing"),
        (mail, None, "job 'mail': input does not fit Order: input: expected object, got null"),
        (shop(), [], "flow 'shop', step 'typed': input does not fit Order: input: expected object, got array"),
        (
            pack,
            {"howMany": 2, "x": 1},
            "job 'pack', step 'packing': input does not fit Line: input.x: refused by .*forbid",
        ),
        (lines(), {}, "flow 'lines', step 'each': input must be an array of Line, got object"),
        (
            lines(),
            [Line(howMany=1), {}],
            r"flow 'lines', step 'each': input\[1\] does not fit Line: input\[1\].howMany",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_naming_the_step_and_the_path(module: Any, given: Any, told: str) -> None:
    with pytest.raises(pgflow.PayloadError, match=f"^{told}") as refused:
        text(module, given)
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, pgflow.PermanentError)
    assert "hunter2" not in str(refused.value)


def test_of_many_the_one_is_named() -> None:
    with pytest.raises(pgflow.PayloadError, match=r"inputs\[3\] does not fit Order: inputs\[3\]\.id: is missing"):
        text(mail, {}, "inputs[3]")


def test_where_only_a_slug_is_known_nothing_is_checked() -> None:
    assert json.loads(Inputs(None).text({"id": "x"})) == {"id": "x"}
    with pytest.raises(ValueError, match=r"input\['a'\] is a set"):
        Inputs(None).text({"a": set()})


def test_a_schedule_s_input_is_checked_where_it_is_declared() -> None:
    assert pgflow.Schedule("0 7 * * *", mail, input=Order(7)).slug == "mail"
    with pytest.raises(
        ValueError, match=r"schedule 'mail': job 'mail': input does not fit Order: input\.id: expected int"
    ):
        pgflow.Schedule("0 7 * * *", mail, input={"id": "seven"})
    assert pgflow.Schedule("0 7 * * *", "mail", input={"id": "seven"}).slug == "mail"
    assert pgflow.Schedule("0 7 * * *", pgflow.Flow("later"), input=7).slug == "later"
