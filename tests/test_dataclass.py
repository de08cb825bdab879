"""The dataclass that is quickly made: every test is passed by the standard library's as well."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import pgflow_starter.core.dataclass as ours

MAKERS: list[Any] = [dataclasses.dataclass, vars(ours)["dataclass"]]


@pytest.fixture(params=MAKERS, ids=["the library's", "ours"])
def dataclass(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def point(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 0
        marks: list[str] = dataclasses.field(default_factory=list, compare=False)
        secret: str = dataclasses.field(default="s", repr=False, compare=False)

        def moved(self, x: int) -> Any:
            return dataclasses.replace(self, x=x)

    return Point


def test_fields_are_given_by_position_by_name_or_by_default(point: Any) -> None:
    for made in (point(1, 2, ["a"], "t"), point(1, marks=["a"], y=2, secret="t"), point(x=1, y=2, marks=["a"])):
        assert (made.x, made.y, made.marks) == (1, 2, ["a"])
    assert (point(1).y, point(1).secret) == (0, "s")
    assert point(1).marks is not point(1).marks


@pytest.mark.parametrize(
    "call",
    [
        lambda make: make(),
        lambda make: make(y=1),
        lambda make: make(1, z=1),
        lambda make: make(1, x=1),
        lambda make: make(1, 2, [], "s", 5),
    ],
    ids=["none", "one is missing", "an unknown one", "one twice", "too many"],
)
def test_arguments_that_do_not_fit_are_a_type_error(point: Any, call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="Point"):
        call(point)


def test_keyword_only_fields_are_given_by_name(dataclass: Any) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Rhythm:
        beat: float
        sweep: float = 2.0

    assert (Rhythm(beat=1.0).beat, Rhythm(sweep=3.0, beat=1.0).sweep) == (1.0, 3.0)
    assert str(inspect.signature(Rhythm)).replace("'", "") == "(*, beat: float, sweep: float = 2.0) -> None"
    with pytest.raises(TypeError, match="Rhythm"):
        Rhythm(1.0, 2.0)


def test_equality_and_hash_go_by_the_fields_that_are_compared(point: Any, dataclass: Any) -> None:
    assert point(1, 2, ["a"]) == point(1, 2, ["b"], "t")
    assert point(1, 2) != point(2, 1)
    assert point(1) != (1, 0)
    assert len({point(1), point(1, 0, ["a"]), point(2)}) == 2

    @dataclass(frozen=True, slots=True)
    class Begin:
        """No fields."""

    assert (Begin(), hash(Begin()), repr(Begin()).rpartition(".")[2]) == (Begin(), hash(Begin()), "Begin()")


def test_repr_shows_the_class_and_the_fields_but_the_hidden(point: Any) -> None:
    made = point(1, 2, [])
    assert repr(made).endswith(".Point(x=1, y=2, marks=[])")
    made.marks.append(made)
    assert repr(made).endswith(".Point(x=1, y=2, marks=[...])")


def test_nothing_can_be_changed_and_nothing_added(point: Any) -> None:
    made = point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        made.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del made.x
    # The library stumbles over its own slots, in one way or another.
    with pytest.raises((AttributeError, TypeError)):
        made.z = 2
    assert made.x == 1
    assert not hasattr(made, "__dict__")


def test_the_functions_of_the_library_take_it(point: Any) -> None:
    made = point(1, 2, ["a"])
    assert [f.name for f in dataclasses.fields(point)] == ["x", "y", "marks", "secret"]
    assert dataclasses.asdict(made) == {"x": 1, "y": 2, "marks": ["a"], "secret": "s"}
    assert made.moved(5) == point(5, 2)
    assert dataclasses.is_dataclass(made)
    assert point.__dataclass_params__.frozen


def test_it_is_copied_and_matched(point: Any) -> None:
    made = point(1, 2, ["a"])
    copied = copy.deepcopy(made)
    assert (copied, copied.marks) == (made, ["a"])
    assert copied.marks is not made.marks
    match made:
        case point(1, y, marks=["a"]):
            assert y == 2
        case _:
            pytest.fail(f"{made} does not match")


def test_help_shows_what_it_is_made_of(point: Any) -> None:
    told = str(inspect.signature(point)).replace("'", "")
    assert told.startswith("(x: int, y: int = 0, marks: list[str] = <")
    assert told.endswith(", secret: str = s) -> None")


def test_what_the_class_defines_itself_stays(dataclass: Any) -> None:
    @dataclass(frozen=True, slots=True)
    class Upper:
        text: str

        def __post_init__(self) -> None:
            object.__setattr__(self, "text", self.text.upper())

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Upper) and self.text[0] == other.text[0]

        def __hash__(self) -> int:
            return 1

    assert Upper("ab") == Upper("ac")
    assert (Upper("ab").text, hash(Upper("ab"))) == ("AB", 1)


def test_it_can_be_derived_from(point: Any) -> None:
    class Origin(point):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(0)

    assert (Origin().x, Origin() == Origin(), len(inspect.signature(Origin).parameters)) == (0, True, 0)
    assert Origin() != point(0)

    @dataclasses.dataclass(frozen=True)
    class Solid(point):  # type: ignore[misc]
        z: int = 0

    assert (Solid(1, z=3).z, Solid(1, z=3) == Solid(1, z=3)) == (3, True)
