"""Transient or permanent: which class an error of a registration phase has, and how it is told."""

from __future__ import annotations

import re
import traceback
from pathlib import PurePath

from pgflow_starter.core.causes import is_permanent
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass
from pgflow_starter.core.text import one_line, text_of
from pgflow_starter.errors import DatabaseError, PermanentError, TransientError

# Whole SQLSTATEs first, then their two-character classes (PostgreSQL's appendix A). What is in neither is transient:
# an error that nobody foresaw must not become a job that is silently never run.
_PERMANENT_STATES = frozenset({"P0001", "3D000", "25P02"})
_PERMANENT_CLASSES = frozenset({"0A", "0L", "0P", "21", "22", "23", "26", "28", "2B", "3F", "42", "44"})
_TRANSIENT_STATES = frozenset({"42710", "42P05", "42P07", "23505"})  # two sessions creating the same thing at once

# libpq hands over no SQLSTATE for a refused connection: these are the server's own (English) words.
_PERMANENT_MESSAGES = (
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|role \"?[^\"]*\"? does not exist"
    r"|database \"?[^\"]*\"? does not exist|is not permitted to log in|permission denied for database"
    r"|authentication failed for user|does not support SSL, but SSL was required|invalid connection option"
    r"|invalid \w+ value|invalid port number|root certificate file"
)
# Data exceptions, constraint violations, what a function raises: PostgreSQL's words for these show values.
_QUOTING_CLASSES = ("22", "23", "44", "P0")
_FRAMES = 5
_PERMANENT_DRIVER_ERRORS = frozenset({"ProgrammingError", "NotSupportedError", "DataError"})


def classify(error: BaseException, phase: Phase) -> ErrorClass:
    """The class of what a phase raised."""
    if is_permanent(error):
        return ErrorClass.PERMANENT
    if isinstance(error, DatabaseError):
        return _classify_database(error)
    if isinstance(error, TransientError):
        return ErrorClass.TRANSIENT
    # In the registry phase it is the user's definition that raised, and it will raise again.
    return ErrorClass.PERMANENT if phase is Phase.REGISTRY else ErrorClass.TRANSIENT


def _classify_database(error: DatabaseError) -> ErrorClass:
    state = error.sqlstate
    if state is None:
        said_so = error.error_type in _PERMANENT_DRIVER_ERRORS or re.search(_PERMANENT_MESSAGES, str(error))
        return ErrorClass.PERMANENT if said_so else ErrorClass.TRANSIENT
    if state in _TRANSIENT_STATES:
        return ErrorClass.TRANSIENT
    permanent = state in _PERMANENT_STATES or state[:2] in _PERMANENT_CLASSES
    return ErrorClass.PERMANENT if permanent else ErrorClass.TRANSIENT


def error_type(error: BaseException) -> str:
    """The SQLSTATE, else the name of the exception class."""
    if isinstance(error, DatabaseError):
        return error.sqlstate or error.error_type
    return type(error).__name__


def reason_for_logs(error: BaseException) -> str:
    """As `reason`, for errors met at work on messages: without the words of those that may quote a message."""
    if not isinstance(error, DatabaseError):
        return type(error).__name__
    if not (error.quoting or (error.sqlstate or "").startswith(_QUOTING_CLASSES)):
        return reason(error)
    return f"{error.error_type} [{error.sqlstate}]" + (f", {error.place}" if error.place else "")


def places(error: BaseException) -> str:
    """Where it was raised: the last calls of its traceback, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return " < ".join(f"{frame.name} ({PurePath(frame.filename).name}:{frame.lineno})" for frame in reversed(frames))


def reason(error: BaseException) -> str:
    """One line that a person can act on."""
    text = one_line(text_of(error))
    if isinstance(error, PermanentError | TransientError | DatabaseError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
