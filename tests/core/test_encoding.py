"""What becomes of handler outputs and error texts on their way into PostgreSQL."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_starter.core.encoding import error_text, to_json


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


@dataclass
class Line:
    item: str
    prices: list[Decimal] = field(default_factory=list)


Point = namedtuple("Point", "x y")


class Model(pydantic.BaseModel):
    at: dt.timedelta = dt.timedelta(seconds=5)
    share: float = pydantic.Field(default=0.5, alias="theShare")
    line: Line | None = None
    color: Color | None = None

    @pydantic.computed_field
    def doubled(self) -> float:
        return 2 * self.share


@pydantic.dataclasses.dataclass
class Parcel:
    until: dt.timedelta


MODEL = '{"at":"PT5S","theShare":0.5,"line":null,"color":null,"doubled":1.0}'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (-3, "-3"),
        (1.5, "1.5"),
        ("é\n", '"é\\n"'),
        ([1, "a"], '[1,"a"]'),
        ((1, 2), "[1,2]"),
        ({"a": {"b": []}}, '{"a":{"b":[]}}'),
        (OrderedDict(a=1), '{"a":1}'),
        (Point(1, 2), "[1,2]"),
        (Color.RED, '"red"'),
        (Level.HIGH, "3"),
        ({Color.RED.value: Level.HIGH}, '{"red":3}'),
        (Text("a"), '"a"'),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), '"2026-01-02T03:04:05+00:00"'),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
        (dt.time(3, 4), '"03:04:00"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.10"), '"1.10"'),
        (Line("tea", [Decimal(2)]), '{"item":"tea","prices":["2"]}'),
        (Model(line=Line("tea")), MODEL.replace("null", '{"item":"tea","prices":[]}', 1)),
        ({"a": [Model()]}, '{"a":[' + MODEL + "]}"),
        (Parcel(dt.timedelta(days=1)), '{"until":"P1D"}'),
        (pydantic.RootModel[list[int]]([1]), "[1]"),
    ],
    ids=repr,
)
def test_what_json_can_express_is_stored(value: Any, expected: str) -> None:
    assert to_json(value) == expected


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "output is nan"),
        ({"a": [1, float("inf")]}, r"output\['a'\]\[1\] is inf"),
        (b"x", "output is a bytes, which is not JSON"),
        ({1, 2}, "output is a set"),
        (type("Odd", (), {"__repr__": lambda _: "odd"})(), "output is a Odd"),
        (Line, "output is a type"),
        (UserDict(a=1), "output is a UserDict"),
        ({"a": {1: 2}}, r"output\['a'\] has the key 1, and JSON objects have string keys"),
        ("a\x00b", "output holds a NUL character or a lone surrogate"),
        (["\ud800"], r"output\[0\] holds a NUL"),
        ({"a\x00": 1}, "a key of output holds a NUL"),
        (Line("\x00"), r"output\.item holds a NUL"),
        (dt.timedelta(1), "output is a timedelta"),
        (10**5000, "output is an int of more than"),
        ([3j], r"output\[0\] is a complex"),
        ([Model(theShare=float("nan"))], r"output\[0\]\['theShare'\] is nan"),
        ([Model.model_construct(line=object())], r"output\[0\] cannot be written as JSON: .*object"),
    ],
    ids=lambda v: repr(v)[:30] if not isinstance(v, int) else "huge",
)
def test_anything_else_is_refused_by_its_path(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        to_json(value)


def test_what_a_model_s_own_serializer_raises_is_told_without_its_words() -> None:
    class Card(pydantic.BaseModel):
        number: str

        @pydantic.field_serializer("number")
        def _written(self, number: str) -> str:
            raise ValueError(f"no number: {number}")

    with pytest.raises(ValueError, match="output cannot be written as JSON: ") as refused:
        to_json(Card(number="hunter2"))
    assert str(refused.value).endswith("Error calling function `_written`: ValueError")
    assert refused.value.__context__ is None


def test_what_contains_itself_is_refused() -> None:
    circular: dict[str, Any] = {"list": []}
    circular["list"].append(circular)
    with pytest.raises(ValueError, match=r"output\['list'\]\[0\] contains itself"):
        to_json(circular)


def test_the_same_value_twice_side_by_side_is_no_circle() -> None:
    shared = [1]
    assert to_json({"a": shared, "b": shared}) == '{"a":[1],"b":[1]}'


def test_what_is_nested_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        to_json(deep)


def test_the_refusal_says_what_it_is_about() -> None:
    with pytest.raises(ValueError, match=r"^input\['a'\] is a set"):
        to_json({"a": set()}, "input")


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
documents = st.recursive(plain | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)


@given(documents)
def test_any_json_document_survives_the_way(document: Any) -> None:
    assert json.loads(to_json(document)) == document


@given(st.text(st.characters(exclude_categories=())))
def test_any_error_text_can_be_stored(text: str) -> None:
    stored = error_text(text)
    assert "\x00" not in stored
    assert len(stored.encode()) <= 10_000


@pytest.mark.parametrize("letter", ["x", "é", "€", "🙂"])
def test_of_a_long_error_text_the_end_is_kept(letter: str) -> None:
    stored = error_text("beginning" + letter * 20_000 + "end")
    assert stored.startswith("…")
    assert stored.endswith(letter + "end")
    assert 9_990 <= len(stored.encode()) <= 10_000


def test_an_error_text_shows_what_cannot_be_stored() -> None:
    assert error_text("a\x00b\ud800") == "a\\x00b\\ud800"
