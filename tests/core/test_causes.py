"""What an exception holds and came from: told whole, and a PermanentError found in it."""

from __future__ import annotations

import pytest

from pgflow_starter import PermanentError, TransientError
from pgflow_starter.core.causes import is_permanent, words_and_calls
from pgflow_starter.core.classify import classify
from pgflow_starter.core.encoding import error_text
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass

NEVER = PermanentError("never")


def raised(error: BaseException, cause: BaseException | None = None, context: BaseException | None = None) -> Exception:
    """The error as it would be after it was raised."""
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = cause is not None
    return error  # type: ignore[return-value] # for the tables below


def told(error: BaseException) -> str:
    parts = words_and_calls(error)
    return error_text(next(parts), parts)


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (NEVER, True),
        (ValueError(), False),
        (ExceptionGroup("g", [ValueError(), NEVER]), True),
        (ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [ExceptionGroup("i", [NEVER])])]), True),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), NEVER]), True),
        (ExceptionGroup("g", [ValueError(), TransientError()]), False),
        (raised(RuntimeError(), cause=NEVER), True),
        (raised(RuntimeError(), cause=raised(KeyError(), cause=NEVER)), True),
        (raised(RuntimeError(), cause=ExceptionGroup("g", [NEVER])), True),
        (ExceptionGroup("g", [raised(RuntimeError(), cause=NEVER)]), True),
        (raised(RuntimeError(), context=NEVER), False),
        (raised(RuntimeError(), cause=raised(KeyError(), context=NEVER)), False),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_permanent_error_counts_in_groups_and_as_a_cause_and_not_as_what_was_handled(
    error: Exception, permanent: bool
) -> None:
    assert is_permanent(error) is permanent
    assert (classify(error, Phase.WORKER) is ErrorClass.PERMANENT) is permanent


def test_groups_and_causes_are_told_whole_each_where_it_belongs() -> None:
    deeper = ExceptionGroup("deeper", [KeyError("x"), raised(OSError("disk"), context=NEVER)])
    error = raised(ExceptionGroup("many", [ValueError("a\nb"), deeper]), cause=raised(RuntimeError("why")))
    assert told(error).splitlines() == [
        "ExceptionGroup: many (2 sub-exceptions)",
        "  1 of 2: ValueError: a",
        "  b",
        "  2 of 2: ExceptionGroup: deeper (2 sub-exceptions)",
        "    1 of 2: KeyError: 'x'",
        "    2 of 2: OSError: disk",
        "      raised while handling pgflow_starter.errors.PermanentError: never",
        "  caused by RuntimeError: why",
    ]


def test_where_each_was_raised_is_told() -> None:
    def cause() -> None:
        raise KeyError("inner")

    def handler() -> None:
        try:
            cause()
        except KeyError as error:
            raise ValueError("outer") from error

    with pytest.raises(ValueError, match="outer") as caught:
        handler()
    lines = told(caught.value).splitlines()
    assert lines[0] == "ValueError: outer"
    assert "in handler" in lines[1]
    inner = lines.index("  caused by KeyError: 'inner'")
    assert any(line.startswith("    File ") and "in cause" in line for line in lines[inner:])


def test_a_context_that_was_suppressed_is_not_told() -> None:
    error = raised(ValueError("outer"), context=KeyError("inner"))
    error.__suppress_context__ = True
    assert told(error) == "ValueError: outer"


def test_exceptions_that_go_in_a_circle_are_told_once_each() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, ExceptionGroup("both", [first, second])
    assert told(first).count("first") == 1
    assert not is_permanent(first)


def test_an_exception_whose_text_cannot_be_had_hides_no_other() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    lines = told(ExceptionGroup("g", [MuteError(), ValueError("b")])).splitlines()
    assert "MuteError" in lines[1]
    assert lines[2] == "  2 of 2: ValueError: b"


def test_what_an_exception_says_first_stays_however_much_it_holds() -> None:
    text = told(ExceptionGroup("first words", [ValueError("é" * 400) for _ in range(100_000)]))
    assert text.startswith("ExceptionGroup: first words")
    assert text.endswith("…")
    assert 9_000 < len(text.encode()) <= 10_000


def test_depth_is_no_trouble() -> None:
    error: Exception = NEVER
    for number in range(20_000):
        error = ExceptionGroup("g", [error]) if number % 2 else raised(ValueError(), cause=error)
    assert is_permanent(error)
    assert told(error).startswith("ExceptionGroup: g")


def test_an_exception_that_cannot_even_be_looked_into_is_not_permanent() -> None:
    class ClosedError(Exception):
        @property
        def __cause__(self) -> BaseException | None:  # type: ignore[override]
            raise RuntimeError

    assert not is_permanent(ClosedError())
