"""The id of a run that has a key: the same everywhere, and another for each flow."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

import pgflow_starter as pgflow
from tests.support.starters import echo_job


def test_it_is_what_other_languages_make_of_flow_and_key() -> None:
    # select uuid_generate_v5(uuid_generate_v5(uuid_ns_url(), 'pgflow:send_email'), 'order-7')
    expected = UUID("246fcbb1-3609-589b-a07d-3a0dd725aba0")
    assert pgflow.run_id_of("send_email", "order-7") == expected
    assert pgflow.run_id_of(echo_job("send_email"), "order-7") == expected


def test_flows_and_keys_share_none() -> None:
    made = {pgflow.run_id_of(slug, key) for slug in ("a", "b", "ab") for key in ("a", "b", "ba", "ü", " a")}
    assert len(made) == 15


@pytest.mark.parametrize(
    ("key", "error"),
    [("", ValueError), ("\ud800", ValueError), (7, TypeError), (None, TypeError), (b"k", TypeError)],
    ids=ascii,
)
def test_what_is_no_key_is_refused(key: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^a key must "):
        pgflow.run_id_of("send_email", key)


def test_a_message_in_the_place_of_the_key_is_not_shown() -> None:
    with pytest.raises(TypeError, match=r"^a key must be a string, got dict$"):
        pgflow.run_id_of("send_email", {"card": "hunter2"})  # type: ignore[arg-type]


def test_what_is_no_flow_is_refused() -> None:
    with pytest.raises(pgflow.DefinitionError):
        pgflow.run_id_of(object(), "order-7")  # type: ignore[arg-type]
