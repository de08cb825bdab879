"""`contains` is PostgreSQL's own `@>`."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from pgflow_starter.core.encoding import to_json
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.testing.containment import contains
from pgflow_starter.testing.jsonb import stored

_CONTAINS = "select a::jsonb @> b::jsonb from unnest(%s::text[], %s::text[]) with ordinality as t (a, b, n) order by n"

SCALARS: list[Any] = [None, True, False, 0, 1, 1.0, -0.0, 0.1, 1e16, 10**16, 2**60 + 1, "", "1", "a", "true", "ä"]
KNOWN: list[tuple[Any, Any]] = [
    ([1, 2], 2),
    (2, [2]),
    (2, 2.0),
    ([[1, 2]], [1]),
    ([[1, 2]], [[2]]),
    ([1], [1, 1]),
    ([], []),
    ([], [[]]),
    ([1, [2]], [[]]),
    ([{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}]),
    ({"a": [1, 2]}, {"a": 1}),
    ({"a": [1, 2]}, {"a": [2, 2]}),
    ({"a": {}}, {"a": {}}),
    ({}, []),
    ([], {}),
    ({"a": 1}, {}),
    (True, 1),
    ([None], None),
    ([{"a": 1}], {"a": 1}),
]

# Few keys and few values, so that one often contains the other.
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 0.5, "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Any two, or one and what is left of it when some of it is taken away."""
    value = draw(VALUES)
    return value, _part(draw, value) if draw(st.booleans()) else draw(VALUES)


def _part(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _part(draw, v) for key, v in value.items() if draw(st.integers(0, 3))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        return [_part(draw, v) for v in draw(st.lists(st.sampled_from(value), max_size=4))]
    return draw(st.sampled_from(value)) if isinstance(value, list) and value else value


def _differing(conninfo: str, compared: list[tuple[Any, Any]]) -> list[tuple[Any, Any, bool]]:
    texts = [(to_json(a), to_json(b)) for a, b in compared]
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(_CONTAINS, tuple(map(list, zip(*texts, strict=True)))).fetchall()
    ours = [contains(stored(a), json.loads(b)) for a, b in texts]
    return [(*pair, theirs) for pair, mine, (theirs,) in zip(compared, ours, rows, strict=True) if mine != theirs]


def test_of_all_scalars_and_of_what_is_known_to_be_special(server: EmbeddedPostgres) -> None:
    of_scalars = [(a, b) for a in SCALARS for b in SCALARS]
    in_arrays = [pair for a, b in of_scalars for pair in (([a], b), (a, [b]), ([a], [b]), ({"k": a}, {"k": b}))]
    assert _differing(server.conninfo(), [*of_scalars, *in_arrays, *KNOWN]) == []


@settings(max_examples=50)
@given(compared=st.lists(pairs(), min_size=1, max_size=40))
def test_of_whatever_there_is(server: EmbeddedPostgres, compared: list[tuple[Any, Any]]) -> None:
    assert _differing(server.conninfo(), compared) == []
