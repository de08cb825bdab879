"""Which errors are transient and which permanent: the measured table, row by row, and how an error is told."""

from __future__ import annotations

import pytest

from pgflow_starter import (
    DatabaseError,
    DefinitionError,
    ErrorClass,
    NotInstalledError,
    PermanentError,
    Phase,
    PhaseTimeoutError,
    ShapeMismatchError,
    SlugTakenError,
    TransientError,
)
from pgflow_starter.core.classify import classify, error_type, reason

CONNECT = 'connection failed: connection to server at "10.0.0.7", port 5432 failed: '

# (situation, psycopg's class, SQLSTATE, message, class)
SITUATIONS = [
    ("the schema is missing", "InvalidSchemaName", "3F000", 'schema "pgmq" does not exist', "permanent"),
    ("a table is missing", "UndefinedTable", "42P01", 'relation "pgflow.flows" does not exist', "permanent"),
    ("a queue is missing on send", "UndefinedTable", "42P01", 'relation "pgmq.q_x" does not exist', "permanent"),
    ("a queue is missing on enable", "RaiseException", "P0001", 'Queue "x" does not exist', "permanent"),
    ("a bad queue name", "RaiseException", "P0001", "queue name is too long", "permanent"),
    ("a negative throttle", "RaiseException", "P0001", "throttle must be non-negative", "permanent"),
    ("a function does not match", "UndefinedFunction", "42883", "function pgflow.x() does not exist", "permanent"),
    ("a check constraint", "CheckViolation", "23514", 'violates check constraint "slug_is_valid"', "permanent"),
    ("an unknown flow or worker", "ForeignKeyViolation", "23503", "violates foreign key constraint", "permanent"),
    ("bad text for an int", "InvalidTextRepresentation", "22P02", "invalid input syntax for type uuid", "permanent"),
    ("wrong placeholders", "ProgrammingError", None, "the query has 1 placeholder but 2 parameters", "permanent"),
    ("an unadapted value", "ProgrammingError", None, "cannot adapt type 'object'", "permanent"),
    ("a bad DSN", "ProgrammingError", None, 'missing "=" after "nonsense" in connection info string', "permanent"),
    ("no privilege", "InsufficientPrivilege", "42501", "permission denied for schema pgflow", "permanent"),
    (
        "a bad password",
        "OperationalError",
        None,
        CONNECT + 'FATAL:  password authentication failed for user "u"',
        "permanent",
    ),
    ("an unknown role", "OperationalError", None, CONNECT + 'FATAL:  role "u" does not exist', "permanent"),
    ("an unknown database", "OperationalError", None, CONNECT + 'FATAL:  database "d" does not exist', "permanent"),
    ("no line in pg_hba", "OperationalError", None, CONNECT + 'FATAL:  no pg_hba.conf entry for host "h"', "permanent"),
    ("no password given", "OperationalError", None, "fe_sendauth: no password supplied", "permanent"),
    ("starting up", "OperationalError", None, CONNECT + "FATAL:  the database system is starting up", "transient"),
    ("shutting down", "OperationalError", None, CONNECT + "FATAL:  the database system is shutting down", "transient"),
    (
        "too many connections",
        "OperationalError",
        None,
        CONNECT + "FATAL:  sorry, too many clients already",
        "transient",
    ),
    ("refused", "OperationalError", None, CONNECT + "Connection refused", "transient"),
    ("no socket", "OperationalError", None, CONNECT + "No such file or directory", "transient"),
    (
        "no such host",
        "OperationalError",
        None,
        "failed to resolve host 'db': [Errno -2] Name or service not known",
        "transient",
    ),
    ("a connect timeout", "ConnectionTimeout", None, "connection timeout expired", "transient"),
    ("the pool exhausted", "PoolTimeout", None, "couldn't get a connection after 30.00 sec", "transient"),
    ("a fast stop", "AdminShutdown", "57P01", "terminating connection due to administrator command", "transient"),
    ("an immediate stop", "OperationalError", None, "server closed the connection unexpectedly", "transient"),
    ("a backend crash", "CrashShutdown", "57P02", "terminating connection because of crash", "transient"),
    ("a statement timeout", "QueryCanceled", "57014", "canceling statement due to statement timeout", "transient"),
    ("a lock timeout", "LockNotAvailable", "55P03", "canceling statement due to lock timeout", "transient"),
    ("a deadlock", "DeadlockDetected", "40P01", "deadlock detected", "transient"),
    ("a serialization failure", "SerializationFailure", "40001", "could not serialize access", "transient"),
    (
        "idle in transaction",
        "IdleInTransactionSessionTimeout",
        "25P03",
        "terminating connection due to idle-in-transaction timeout",
        "transient",
    ),
    ("a hot standby", "ReadOnlySqlTransaction", "25006", "cannot execute INSERT in a read-only", "transient"),
    ("an enable race", "DuplicateObject", "42710", 'trigger "t" already exists', "transient"),
    ("a failed transaction used again", "InFailedSqlTransaction", "25P02", "current transaction is", "permanent"),
    ("what nobody foresaw", "InternalError_", "XX000", "cache lookup failed", "transient"),
    ("too many connections, with its code", "TooManyConnections", "53300", "too many connections", "transient"),
    ("a bad password, with its code", "InvalidPassword", "28P01", "password authentication failed", "permanent"),
    ("an unknown database, with its code", "InvalidCatalogName", "3D000", "does not exist", "permanent"),
]


@pytest.mark.parametrize("phase", [Phase.WORKER, Phase.NOTIFY_DB, Phase.NOTIFY_REGISTER])
@pytest.mark.parametrize(
    ("driver_class", "sqlstate", "text", "expected"),
    [row[1:] for row in SITUATIONS],
    ids=[row[0] for row in SITUATIONS],
)
def test_a_database_error_has_the_class_that_was_measured(
    driver_class: str, sqlstate: str | None, text: str, expected: str, phase: Phase
) -> None:
    error = DatabaseError(text, sqlstate=sqlstate, error_type=driver_class)
    assert classify(error, phase) == expected
    assert error_type(error) == (sqlstate or driver_class)
    assert reason(error) == " ".join(text.split())


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("no"),
        DefinitionError("no"),
        SlugTakenError("no"),
        ShapeMismatchError("no"),
        NotInstalledError("no"),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("phase", list(Phase))
def test_our_own_permanent_errors_are_permanent_in_every_phase(error: Exception, phase: Phase) -> None:
    assert classify(error, phase) is ErrorClass.PERMANENT


@pytest.mark.parametrize("error", [TransientError("later"), PhaseTimeoutError("late")], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("phase", list(Phase))
def test_our_own_transient_errors_are_transient_in_every_phase(error: Exception, phase: Phase) -> None:
    assert classify(error, phase) is ErrorClass.TRANSIENT


@pytest.mark.parametrize("error", [RuntimeError("x"), SystemExit(3), KeyboardInterrupt(), OSError("x"), MemoryError()])
def test_what_a_definition_raises_is_permanent_and_what_nobody_foresaw_elsewhere_is_not(error: BaseException) -> None:
    assert classify(error, Phase.REGISTRY) is ErrorClass.PERMANENT
    assert {classify(error, phase) for phase in list(Phase)[1:]} == {ErrorClass.TRANSIENT}


@pytest.mark.parametrize(
    ("error", "type_", "text"),
    [
        (RuntimeError("boom"), "RuntimeError", "RuntimeError: boom"),
        (RuntimeError(), "RuntimeError", "RuntimeError"),
        (SystemExit(3), "SystemExit", "SystemExit: 3"),
        (KeyError("x"), "KeyError", "KeyError: 'x'"),
        (DefinitionError("shop is not a flow"), "DefinitionError", "shop is not a flow"),
        (DefinitionError(), "DefinitionError", "DefinitionError"),
        (DatabaseError("it is\n\tgone\n", error_type="OperationalError"), "OperationalError", "it is gone"),
        (DefinitionError("\x1b[31mred\x9b0m\x00 \x07 \x7f\x85end"), "DefinitionError", "[31mred0m end"),
    ],
)
def test_an_error_is_told_in_one_line(error: BaseException, type_: str, text: str) -> None:
    assert (error_type(error), reason(error)) == (type_, text)


def test_a_very_long_error_is_cut() -> None:
    told = reason(DefinitionError("x" * 10_000))
    assert len(told) == 500
    assert told.endswith("…")


def test_an_error_whose_text_cannot_be_had_is_told_by_its_class() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "MuteError" in reason(MuteError())
