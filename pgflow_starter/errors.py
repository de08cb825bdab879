"""Every exception that pgflow_starter raises on purpose.

All of them derive from `PgflowError`; nobody who uses this package has to catch psycopg's. None of their messages ever
holds a password: what comes from a connection string is redacted before it gets here.
"""

from __future__ import annotations

from copy import copy
from typing import Self
from uuid import UUID

MISSING_STATES = ("3F000", "42P01", "42883")
"""SQLSTATEs of a schema, a table, a function that is not there."""


class PgflowError(Exception):
    """Base of all errors of this package. The message says what was wrong, where, and what to do."""


class PermanentError(PgflowError):
    """Trying again will not help: a registration stops at once; raised by a handler it fails the task for good.

    So does one in an exception group, and one that another exception is raised `from`.
    """


class DefinitionError(PermanentError):
    """A module cannot be loaded, or yields no valid `FlowDefinition`, or one with a slug that the core refuses."""


class PayloadError(PermanentError, ValueError):
    """A handler's input, or what a run was to be started with, does not fit the type in the handler's annotation.

    The message names the path, the type that is there and what was wanted, never the value. A call that raises it has
    sent nothing.
    """


class SlugTakenError(PermanentError):
    """Another module of this starter has registered the slug."""


class ShapeMismatchError(PermanentError):
    """The flow in the database has other steps, kinds, dependencies, conditions or queues than the code.

    Or the steps in another order, while another runtime has its queue, which compares it.
    """


class NotInstalledError(PermanentError):
    """pgmq or the pgflow core is missing from the database, too old, or newer than this package knows."""


class MissingRightsError(PermanentError):
    """The role may not do what a worker, a call or a command has to; the message names what mends it."""


class ListenUnsupportedError(PermanentError):
    """Notifications do not arrive over this connection string: a transaction pooler is in between."""


class SetupError(PgflowError):
    """A set-up step (embedded server, download, installation) cannot be done here; the message names the remedy."""


class MissingExtraError(SetupError):
    """An optional dependency is needed that is not installed; the message names the extra."""


def installing(extra: str) -> str:
    """How to install it: this package is in no index."""
    return f"pip install '.[{extra}]' in a checkout of pgflow_starter"


class TransientError(PgflowError):
    """Trying again later may help."""


class PhaseTimeoutError(TransientError):
    """A phase took longer than `phase_timeout` and was cancelled."""


class DatabaseError(PgflowError):
    """A statement or a connection failed.

    `sqlstate` is PostgreSQL's five-character code, None where the server sent none; `error_type` the driver's exception
    class; `connection_lost` whether the connection is gone or was never made. `unknown`: it broke while the server was
    at it, so what was asked for may be carried out all the same; otherwise it was not. `timed_out`: it took longer than
    its limit. `once_more`: nothing was done, and another session may do better. `quoting`: the text may have values of
    a message in it, for a function or a trigger raised it; `place` names the constraint, and its table, if it was one.
    """

    once_more = False

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        error_type: str = "Error",
        connection_lost: bool = False,
        unknown: bool = False,
        timed_out: bool = False,
        quoting: bool = False,
        place: str = "",
    ) -> None:
        super().__init__(message)
        self.quoting = quoting
        self.place = place
        self.sqlstate = sqlstate
        self.error_type = error_type
        self.connection_lost = connection_lost
        self.unknown = unknown
        self.timed_out = timed_out

    @property
    def locked(self) -> bool:
        """Whether somebody else holds a lock that it would have had to wait for."""
        return self.sqlstate in ("55P03", "40P01")

    def saying(self, message: str) -> Self:
        """The same error with another text."""
        error = copy(self)
        error.args = (message,)
        return error


class OutcomeUnknownError(DatabaseError):
    """Runs were to be started, the call was given up, and it may be carried out all the same.

    `run_ids` are the runs' ids: the same call with `run_id=` (or `run_ids=`), or with its keys, starts no run twice.
    """

    run_ids: tuple[UUID, ...] = ()


class UnknownFlowError(PgflowError):
    """The database has no flow of that slug."""


class RunNotFoundError(PgflowError):
    """The database has no run of that id."""


class RunFailedError(PgflowError):
    """`Run.raise_for_status` met a run that has failed; the message says of what."""


class NotReadyError(PgflowError, TimeoutError):
    """`await_ready` timed out; the message tells the state of every module that is not terminal."""


class StarterStopped(PgflowError):  # noqa: N818 - a state told by the contract's name
    """The call met a starter that was stopped."""


class StarterTerminated(PgflowError):  # noqa: N818 - as above
    """The root supervisor gave up; `__cause__` is what made it."""


class ForkedError(PgflowError):
    """A handle was used in a child process of the one that started it."""
