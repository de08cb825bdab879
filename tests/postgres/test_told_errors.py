"""What is told of an error that is stored."""

from __future__ import annotations

import pytest

from pgflow_starter.postgres.client.told_errors import Told, ToldErrors

STORED = """ValueError: card 4711
is refused
  File "/shop/flows.py", line 7, in charge
    raise ValueError(f"card {card}")
  File "/shop/card.py", line 1, in <lambda>
  KeyError: 4711
"""


def test_in_full_it_is_the_message_and_the_traceback() -> None:
    error, calls = ToldErrors(True, str)(STORED)
    assert error == "ValueError: card 4711 is refused"
    assert calls is not None
    assert calls.startswith('  File "/shop/flows.py", line 7, in charge\n    raise')


def test_else_it_is_the_type_and_where() -> None:
    error, calls = ToldErrors(False, str)(STORED)
    assert error == "ValueError"
    assert calls == '  File "/shop/flows.py", line 7, in charge\n  File "/shop/card.py", line 1, in <lambda>'


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (None, None),
        ("", None),
        ("cancelled", "cancelled"),
        ("shop.errors.Refused: 4711", "shop.errors.Refused"),
        ("card 4711 is refused", None),
        ("4711", None),
        ("hunter2", None),
        ("sk_live_4711: rejected", None),
        ("Refused: 4711", None),
        ("Error: 4711", "Error"),
    ],
)
def test_of_what_is_no_exceptions_own_line_nothing_is_told_without_messages(stored: str, told: str) -> None:
    assert ToldErrors(False, str)(stored) == Told(told)


def test_secrets_are_taken_out() -> None:
    assert ToldErrors(True, lambda text: text.replace("4711", "***"))("ValueError: 4711").error == "ValueError: ***"
