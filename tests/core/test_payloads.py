"""Typed payloads: what a handler gets, by each kind of type, and what is said of data that does not fit."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Generic, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

import pgflow_starter as pgflow
from pgflow_starter.core.encoding import to_json
from pgflow_starter.core.payloads.payload import Payload, payload_of

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    item: str
    pieces: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    hour: dt.time
    total: decimal.Decimal
    color: Color
    weight: float
    gift: bool
    lines: tuple[Line, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)


class OrderDict(TypedDict):
    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    hour: dt.time
    total: decimal.Decimal
    color: Color
    weight: float
    gift: bool
    lines: list[Line]
    notes: NotRequired[dict[str, int]]


class OrderModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, ser_json_bytes="base64", val_json_bytes="base64")

    id: uuid.UUID
    at: dt.datetime
    day: dt.date
    hour: dt.time
    total: decimal.Decimal
    color: Color
    weight: float
    gift: bool
    lines: list[Line]
    seal: bytes = b"\xff"


@pydantic.dataclasses.dataclass
class Parcel:
    weight: float
    until: dt.timedelta = dt.timedelta(days=1)


@dataclass
class Checked:
    pieces: int

    def __post_init__(self) -> None:
        if self.pieces < 0:
            raise ValueError(f"no {self.pieces} pieces - at `$.secret`")


class CheckedModel(pydantic.BaseModel):
    pieces: int = pydantic.Field(gt=0)

    @pydantic.field_validator("pieces")
    @classmethod
    def _even(cls, pieces: int) -> int:
        if pieces % 2:
            raise ValueError(f"odd: {pieces}")
        return pieces


class OwnErrors(pydantic.BaseModel):
    card: str

    @pydantic.field_validator("card")
    @classmethod
    def _known(cls, card: str) -> str:
        raise PydanticCustomError("card_type", "no card: {card}", {"card": card})


class Deps(TypedDict):
    order: OrderModel
    checked: NotRequired[list[CheckedModel]]


@dataclass
class Page(Generic[T]):
    items: list[T]


class Tree(TypedDict):
    name: str
    below: list[Tree]


def payload(kind: Any) -> Payload:
    """Of a handler that is annotated so."""

    def handler(given: Any, ctx: Any) -> None: ...

    handler.__annotations__["given"] = kind
    made = payload_of(handler, "step 'a'")
    assert made is not None
    return made


def refusal(kind: Any, data: Any) -> str:
    with pytest.raises(pgflow.PayloadError) as refused:
        payload(kind).decode(data)
    assert refused.value.__context__ is None  # it would show the value
    return str(refused.value)


FIELDS = {
    "id": st.uuids(),
    "at": st.datetimes(timezones=st.just(dt.UTC)),
    "day": st.dates(),
    "hour": st.times(),
    "total": st.decimals(allow_nan=False, allow_infinity=False),
    "color": st.sampled_from(Color),
    "weight": st.floats(allow_nan=False, allow_infinity=False),
    "gift": st.booleans(),
}
LINES = st.builds(Line, st.text(st.characters(codec="utf-8", exclude_characters="\x00")), st.integers(0, 2**40))
NOTES = st.dictionaries(st.text("ab"), st.integers(-(2**70), 2**70))
VALUES = {
    Order: st.builds(Order, **FIELDS, lines=st.lists(LINES).map(tuple), notes=NOTES),
    OrderDict: st.fixed_dictionaries({**FIELDS, "lines": st.lists(LINES)}, optional={"notes": NOTES}),
    OrderModel: st.builds(OrderModel, **FIELDS, lines=st.lists(LINES), seal=st.binary()),
}


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@settings(max_examples=50)
@given(data=st.data())
def test_what_is_written_is_read_again_as_it_was(kind: Any, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    assert payload(kind).decode(json.loads(to_json(value))) == value


@pytest.mark.parametrize(
    ("kind", "data", "made"),
    [
        (Line, {"item": "tea", "more": 1}, Line("tea")),
        (Page[Line], {"items": [{"item": "tea"}]}, Page([Line("tea")])),
        (Parcel, {"weight": 1, "until": "PT5S"}, Parcel(1.0, dt.timedelta(seconds=5))),
        (
            Tree,
            {"name": "a", "below": [{"name": "b", "below": []}]},
            {"name": "a", "below": [{"name": "b", "below": []}]},
        ),
        (CheckedModel, {"pieces": "4"}, CheckedModel(pieces=4)),
    ],
    ids=["unknown keys", "generic", "pydantic's dataclass", "recursive", "a lax model"],
)
def test_other_forms_of_these_types_are_made(kind: Any, data: Any, made: Any) -> None:
    assert payload(kind).decode(data) == made


def test_a_dict_of_dependencies_holds_models() -> None:
    order = {"id": str(uuid.UUID(int=1)), "at": "2026-01-02T03:04:05Z", "day": "2026-01-02", "hour": "03:04:00"}
    order |= {"total": "1.10", "color": "red", "weight": 1.5, "gift": False, "lines": [{"item": "tea"}]}  # type: ignore[dict-item]
    made = payload(Deps).decode({"order": order, "checked": [{"pieces": 2}]})
    assert isinstance(made["order"], OrderModel)
    assert made["order"].lines == [Line("tea")]
    assert made["checked"] == [CheckedModel(pieces=2)]
    assert "checked" not in payload(Deps).decode({"order": order})


SECRET = "hunter2"
GOOD = json.loads(
    to_json(
        Order(
            id=uuid.UUID(int=1),
            at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
            day=dt.date(2026, 1, 2),
            hour=dt.time(3),
            total=decimal.Decimal("1.10"),
            color=Color.RED,
            weight=1.5,
            gift=True,
        )
    )
)


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        (Order, None, "input: expected object, got null"),
        (Order, [GOOD], "input: expected object, got array"),
        (Order, GOOD | {"lines": [{"item": "tea", "pieces": "5"}]}, "input.lines[0].pieces: expected int, got str"),
        (Line, {"item": "tea", "pieces": True}, "input.pieces: expected int, got bool"),
        (Line, {"item": "tea", "pieces": 1.0}, "input.pieces: expected int, got float"),
        (Line, {"item": 5}, "input.item: expected str, got int"),
        (Line, {}, "input.item: is missing"),
        (Order, GOOD | {"id": SECRET}, "input.id: invalid UUID, got str"),
        (Order, GOOD | {"at": SECRET}, "input.at: invalid RFC3339 encoded datetime, got str"),
        (Order, GOOD | {"total": SECRET}, "input.total: invalid decimal string, got str"),
        (Order, GOOD | {"color": SECRET}, "input.color: not one of the values that there are, got str"),
        (Order, GOOD | {"notes": {SECRET: SECRET}}, "input.notes[...]: expected int, got str"),
        (OrderDict, GOOD | {"lines": [{}]}, "input.lines[0].item: is missing"),
        (Checked, {"pieces": -7}, "input: refused by its own check, ValueError"),
        (Page[Checked], {"items": [{"pieces": -7}]}, "input.items[0]: refused by its own check, ValueError"),
        (CheckedModel, [7], "input: should be an object, got array"),
        (CheckedModel, {}, "input.pieces: is missing"),
        (CheckedModel, {"pieces": SECRET}, "input.pieces: should be a valid integer, got str"),
        (CheckedModel, {"pieces": -7}, "input.pieces: refused by its own check, greater_than, got int"),
        (CheckedModel, {"pieces": 7}, "input.pieces: refused by its own check, value_error, got int"),
        (OrderModel, GOOD | {"id": SECRET}, "input.id: should be a valid UUID, got str"),
        (OrderModel, GOOD | {"gift": 1}, "input.gift: should be a valid boolean, got int"),
        (OwnErrors, {"card": SECRET}, "input.card: refused by its own check, card_type, got str"),
        (Deps, {"order": GOOD, "checked": [{"pieces": 7}]}, "input.checked[0].pieces: refused by its own check"),
    ],
    ids=lambda value: str(getattr(value, "__name__", value))[:60] if not isinstance(value, dict | list) else "of",
)
def test_what_does_not_fit_is_told_by_path_and_type_and_never_by_value(kind: Any, data: Any, told: str) -> None:
    said = refusal(kind, data)
    name = getattr(kind, "__name__", str(kind))
    assert said.startswith(f"input does not fit {name}: {told}")
    assert not any(value in said for value in (SECRET, "7", "odd", "secret"))


def test_of_many_misfits_the_first_are_told() -> None:
    told = "; ".join(f"input.{name}: is missing" for name in ("id", "at", "day"))
    assert refusal(OrderModel, {}) == f"input does not fit OrderModel: {told}; and 6 more"


def test_what_a_model_cannot_be_nested_for_is_refused_alike() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"a": deep}
    assert refusal(CheckedModel, deep).startswith("input does not fit CheckedModel: input: nested deeper")


@pytest.mark.parametrize(
    "kind",
    [dict, dict[str, int], list[Line], Line | None, Any, object, int, None, "Any", "list[Line]", msgspec.Struct],
    ids=str,
)
def test_other_annotations_get_plain_json(kind: Any) -> None:
    def handler(given: Any, ctx: Any) -> None: ...

    handler.__annotations__["given"] = kind
    assert payload_of(handler, "step 'a'") is None
