"""Which specs are refused, and where there is no handle to be had."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.starter.child import Incarnations
from pgflow_starter.supervision import ChildSpec, Restart, SupervisionError
from tests.starter.child_rig import NOWHERE, Sibling, spec, tree
from tests.supervision.world import Journal


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"pool_size": 0, "batch_sizes": 1}, r"unknown setting 'batch_sizes'.*; pool_size must be an int from 1"),
        ({"jobs": ["shop:mail", "shop:mail"]}, "'shop:mail' is listed twice"),
        ({"lazy": True}, "lazy must be False: a supervised starter starts when its supervisor starts it"),
        ({"id": ""}, "id must be a non-empty string"),
        ({"restart": "always"}, "restart must be one of"),
        ({"shutdown": -1}, "shutdown must be seconds from 0 to infinity, got -1"),
        ({"shutdown": "5"}, "shutdown must be seconds from 0 to infinity, got '5'"),
    ],
)
def test_bad_settings_are_refused_where_the_spec_is_made(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pgflow.child_spec(NOWHERE, **arguments)


def test_a_spec_is_a_permanent_supervisor_s_by_default() -> None:
    made = pgflow.child_spec(NOWHERE)
    assert (made.id, made.restart, made.type, made.shutdown) == ("pgflow", Restart.PERMANENT, "supervisor", math.inf)


def test_a_handle_is_had_of_a_starter_in_a_living_tree_only(journal: Journal) -> None:
    with tree(ChildSpec("other", partial(Sibling.start, "other", journal))) as app:
        with pytest.raises(SupervisionError, match="supervisor 'app' has no child 'pgflow'"):
            pgflow.starter_of(app.ref)
        with pytest.raises(TypeError, match=r"child 'other' is no starter: .* pgflow_starter\.child_spec"):
            pgflow.starter_of(app.ref, "other")
    with pytest.raises(pgflow.StarterStopped, match="stopped with its supervisor"):
        pgflow.starter_of(app.ref)


def test_an_incarnation_that_was_abandoned_in_its_start_is_followed_by_nobody(journal: Journal) -> None:
    start = spec().start
    assert isinstance(start, Incarnations)
    assert start.stop(0)() is None
    abandoned = Sibling.start("abandoned", journal)
    abandoned.stop()
    late = start.begin(abandoned)
    try:
        with pytest.raises(pgflow.StarterTerminated, match="has not started it yet"):
            start.get()
    finally:
        late.stop(0)()
