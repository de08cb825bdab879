"""Passwords in texts."""

from __future__ import annotations

import pytest

from pgflow_starter.postgres.conninfo import Redactor


def test_a_password_of_a_character_or_two_does_not_shred_a_text_and_give_itself_away() -> None:
    for short in ("e", "th"):
        redact = Redactor(f"host=h password={short}")
        assert redact("the server refused the connection") == "the server refused the connection"


@pytest.mark.parametrize(
    "conninfo", ["host=h password=qz", "host=h password = 'qz' port=1", "postgresql://bob:qz@h/d", "x://bob:qz@h:1"]
)
def test_it_is_not_shown_within_a_connection_string(conninfo: str) -> None:
    assert "qz" not in Redactor("host=h password=qz")(f"cannot connect: {conninfo}")


def test_a_longer_one_is_shown_nowhere() -> None:
    assert Redactor("host=h password=s3c")("a s3c b") == "a *** b"
