"""Passwords in texts."""

from __future__ import annotations

import pytest

from pgflow_starter.postgres.connections.conninfo import Redactor


def test_a_password_of_one_character_does_not_shred_a_text_and_give_itself_away() -> None:
    redact = Redactor("host=h password=e")
    assert redact("the server refused the connection") == "the server refused the connection"


@pytest.mark.parametrize(
    "conninfo", ["host=h password=7", "host=h password = '7' port=1", "postgresql://bob:7@h/d", "x://bob:7@h:1"]
)
def test_it_is_not_shown_within_a_connection_string(conninfo: str) -> None:
    assert "7" not in Redactor("host=h password=7")(f"cannot connect: {conninfo}")


def test_a_longer_one_is_shown_nowhere() -> None:
    assert Redactor("host=h password=s3c")("a s3c b") == "a *** b"


def test_a_word_of_a_million_letters_is_looked_through_once() -> None:
    word = "x" * 1_000_000
    assert Redactor("host=h password=s3c")(f"{word} s3c") == f"{word} ***"
