"""What may be told of a task that failed: everything, or neither messages nor lines of source; never a password."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

import pytest

from pgflow_starter.core.failure import LONGEST, Failure, Failures
from pgflow_starter.core.task import Outcome, OutcomeKind, Task

TASK = Task(UUID(int=1), "shop", "charge", 0, 7, 1, None, None)
SECRET = "hush"
E = TypeVar("E", bound=BaseException)
OUTCOME = Outcome(TASK, OutcomeKind.FAILED, error="ValueError: stored", error_type="ValueError")


class BillingError(Exception):
    """Of somebody's own."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raised(error: E, cause: BaseException | None = None) -> E:
    """The error with a traceback."""

    def charge() -> None:
        secret_words_of_the_source = error
        raise secret_words_of_the_source from cause

    with suppress(BaseException):
        charge()
    return error


def of(error: BaseException | None, full: bool = True, secret: str = SECRET) -> Failure:
    return Failures(full, lambda text: text.replace(secret, "***")).of(OUTCOME, error)


def test_everything_is_told_with_the_exception_itself() -> None:
    error = raised(BillingError("no funds"))
    failure = of(error)
    assert (failure.type, failure.message, failure.error) == (f"{__name__}.BillingError", "no funds", error)
    assert "raise secret_words_of_the_source" in failure.trace
    assert str(failure) == f"{__name__}.BillingError: no funds"


def test_an_exception_with_a_secret_in_it_is_told_without_and_given_to_nobody() -> None:
    failure = of(raised(ValueError(f"password {SECRET} of ada"), raised(KeyError(SECRET))))
    assert (failure.message, failure.error) == ("password *** of ada", None)
    assert SECRET not in failure.trace
    assert "KeyError: '***'" in failure.trace


def test_a_message_that_cannot_be_written_is_told_so_that_it_can() -> None:
    failure = of(raised(ValueError("nul \ud800")))
    assert (failure.message, failure.error) == ("nul \\ud800", None)
    assert failure.trace.endswith("ValueError: nul \\ud800")


def test_by_type_neither_messages_nor_source_are_told_of_what_it_holds_either() -> None:
    group = ExceptionGroup("of ada", [raised(ValueError("ada")), raised(BillingError("ada"), raised(KeyError("ada")))])
    error = raised(group)
    error.add_note("of ada")
    failure = of(error, full=False)
    assert (failure.type, failure.message, failure.error) == ("ExceptionGroup", "", None)
    assert "ada" not in failure.trace
    assert "secret_words" not in failure.trace
    told = [line.strip() for line in failure.trace.splitlines()]
    heads = [line for line in told if not line.startswith("File ")]
    assert heads == [
        "ExceptionGroup",
        "1 of 2: ValueError",
        f"2 of 2: {__name__}.BillingError",
        "caused by KeyError",
    ]
    assert sum(line.startswith(f'File "{__file__}", line ') and line.endswith("in charge") for line in told) == 4


def test_a_failure_without_an_exception_has_the_words_that_are_stored_or_none() -> None:
    assert str(of(None)) == "ValueError: stored"
    assert of(None, full=False) == Failure("ValueError")


@pytest.mark.parametrize("full", [True, False])
def test_whatever_was_raised_it_is_bounded_and_raises_nothing(full: bool) -> None:
    def deep(n: int) -> Any:
        return deep(n + 1)

    class Evil(Exception):  # noqa: N818 - as somebody may call it
        @property
        def __notes__(self) -> Any:  # type: ignore[override] # that is what is evil
            raise SystemExit

    errors: list[BaseException] = [raised(MuteError()), raised(Evil()), raised(ValueError("x" * 100_000))]
    with pytest.raises(RecursionError) as recursion:
        deep(0)
    errors.append(recursion.value)
    chained: BaseException = raised(ValueError("0"))
    for number in range(1000):
        chained = raised(ValueError(str(number)), chained)
    for error in (*errors, chained):
        failure = of(error, full)
        assert len(failure.trace) <= LONGEST
        assert len(failure.message) <= LONGEST
        assert failure.type
    if not full:
        assert "Previous line repeated" in of(errors[-1], full).trace


@pytest.mark.parametrize("where", ["itself", "its note", "its cause"])
def test_of_an_endless_message_the_log_has_the_beginning_and_all_that_was_called(where: str) -> None:
    endless = "e" * 10 * LONGEST
    error = raised(ValueError(endless if where == "itself" else "no funds"))
    if where == "its note":
        error.add_note(endless)
    if where == "its cause":
        error.__cause__ = raised(KeyError(endless))
    failure = of(error)
    assert failure.error is None  # for whoever writes the log would write all of it
    assert failure.message == (endless[:LONGEST] if where == "itself" else "no funds")
    assert ", in charge" in failure.trace
    assert ("caused by KeyError" in failure.trace) == (where == "its cause")


@pytest.mark.parametrize("notes", [["of ada", 7], 7])
def test_notes_that_are_no_texts_keep_nothing_else_from_being_told(notes: Any) -> None:
    error = raised(ValueError("no funds"))
    error.__notes__ = notes
    failure = of(error)
    assert (failure.message, failure.error) == ("no funds", error)
    notes = [f"note of {SECRET}", 7]
    error.__notes__ = notes
    assert "note of ***\n7" in of(error).trace
