"""The table of symptoms: which section of docs/troubleshooting.md is about what an error or a trouble is told as.

The list at that page's top is made from it, and the texts for whoever is on call name the section.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ModuleError

PAGE = "docs/troubleshooting.md"


class Symptom(NamedTuple):
    """A section of the page, by its title: what it is about, and by which words this is told.

    `words` are kinds of trouble, classes of errors, SQLSTATEs, and SQLSTATE's two-character classes.
    """

    title: str
    means: str
    words: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """The section's, as Sphinx and GitHub make it of the title."""
        return self.title.lower().replace(" ", "-")

    @property
    def place(self) -> str:
        """The page and the section."""
        return f"{PAGE}#{self.anchor}"


UNEXPECTED = Symptom("Unexpected error", "No other section is about this error: a bug of yours or ours, perhaps.", ())

DEFINITION = Symptom(
    "Definition refused",
    "The module cannot be loaded, or is no flow, or its own code raised.",
    ("DefinitionError",),
)

SYMPTOMS = (
    # Why a module is not registered.
    DEFINITION,
    Symptom("Slug taken", "Two modules of this starter have one slug.", ("SlugTakenError",)),
    Symptom("Another shape", "The database has other steps for this flow than the code.", ("ShapeMismatchError",)),
    Symptom("Not installed", "pgmq or the pgflow core is missing, too old, or too new.", ("NotInstalledError",)),
    Symptom("Missing rights", "The database role lacks a right.", ("MissingRightsError", "42501")),
    Symptom(
        "Listen refused", "LISTEN goes through a pooler, which swallows notifications.", ("ListenUnsupportedError",)
    ),
    Symptom("Login refused", "The server refuses this user, password or database name.", ("28", "3D000")),
    Symptom("Parts gone", "A schema, a table or a function is not there.", ("3F000", "42P01", "42883")),
    Symptom(
        "Statement refused",
        "The server refuses a statement, and will refuse it again.",
        (
            *("0A", "0L", "0P", "21", "22", "23", "25P02", "26", "2B", "3F", "42", "44", "P0001"),
            *("ProgrammingError", "NotSupportedError", "DataError"),
        ),
    ),
    Symptom("Took too long", "A phase or a statement was cut off at its time limit.", ("PhaseTimeoutError", "57014")),
    Symptom(
        "Not yet",
        "The process could start no thread, or a phase was cut short.",
        ("TransientError", "NoThread"),
    ),
    Symptom("Worker lost", "The worker's actor died, and is started again.", ("WorkerLost",)),
    Symptom("Worker deprecated", "Somebody told the worker to stop, in `pgflow.workers`.", ("WorkerDeprecated",)),
    # The database as a whole.
    Symptom(
        "Database away",
        "No connection can be made, or connections break.",
        (
            *("08", "57P", "25006", "25P03", "25P04", "OperationalError", "InterfaceError"),
            *("ConnectionTimeout", "AnswerTimeout", "PoolClosed", "ListenerClosed"),
        ),
    ),
    Symptom("No connection free", "All connections are in use: ours, or the server's.", ("PoolTimeout", "53300")),
    Symptom("Server full", "The server has no disk space or memory left.", ("53",)),
    # What keeps a worker from its work.
    Symptom("Claims refused", "The worker can claim no task.", ("claims_refused",)),
    Symptom("Outcomes refused", "What became of a task cannot be recorded.", ("outcomes_refused",)),
    Symptom("Unwritten", "Outcomes wait until the database takes them.", ("unwritten",)),
    Symptom("Unstarted", "Messages were read of which no task can be started.", ("unstarted",)),
    Symptom(
        "Locked", "Another session holds a lock on messages, tasks or tables.", ("locked", "55P03", "40P01", "40001")
    ),
    Symptom("Unknown step", "The flow in the database has a step that this code has not.", ("unknown_step",)),
    Symptom("Messages lost", "Tasks are queued, and their messages are gone.", ("messages_lost",)),
    Symptom("Not notified", "The queue announces no message; polling goes on.", ("not_notified",)),
    Symptom("Hidden", "Row level security hides rows from the worker.", ("hidden",)),
    Symptom("Unheard", "The worker's heartbeat is refused.", ("unheard",)),
    Symptom("Handlers hang", "Handlers that were given up go on, and hold their threads.", ("handlers_hang",)),
    # What calls raise.
    Symptom(
        "Run failed", "A run has failed, or a handler failed its task for good.", ("RunFailedError", "PermanentError")
    ),
    Symptom("Payload refused", "An input does not fit the handler's annotation.", ("PayloadError",)),
    Symptom("Unknown flow", "The database has no flow of that slug.", ("UnknownFlowError",)),
    Symptom("Run not found", "The database has no run of that id.", ("RunNotFoundError",)),
    Symptom("Outcome unknown", "A call was cut off, and may have been carried out.", ("OutcomeUnknownError",)),
    Symptom("Database error", "A statement failed; its SQLSTATE says of what.", ("DatabaseError",)),
    Symptom("Not ready", "Modules were not registered in time.", ("NotReadyError",)),
    Symptom("Starter stopped", "The starter was stopped before the call.", ("StarterStopped",)),
    Symptom(
        "Starter terminated",
        "The supervision tree gave up.",
        ("StarterTerminated", "RestartIntensityExceededError", "ChildStartError", "AbandonedError"),
    ),
    Symptom("Forked process", "A starter or client was used in a child process.", ("ForkedError",)),
    Symptom("Setup refused", "A set-up step cannot be done here.", ("SetupError", "MissingExtraError")),
    Symptom("Call refused", "The call makes no sense now; the message says why.", ("PgflowError", "SupervisionError")),
    UNEXPECTED,
)

# What no word tells, but who looks at many runs, queues or ticks.
RUNS_FAIL = Symptom("Some runs fail", "The database and the workers are well, and a handler raises.", ())
QUEUE_STILL = Symptom("A queue does not move", "Messages wait, and nobody takes them.", ())
SCHEDULE_LATE = Symptom("A schedule is late", "A tick was not started, or not at its time.", ())
TICKS_MISSED = Symptom("Ticks were missed", "Ticks were due, nobody started them, and nobody will.", ())

_BY_WORD = {word: symptom for symptom in SYMPTOMS for word in symptom.words}
_SQLSTATE = re.compile("[0-9A-Z]{5}")


def symptom_of(word: str) -> Symptom:
    """That of a kind of trouble or an error's type: the whole word first, then what an SQLSTATE begins with."""
    beginnings = (word[:3], word[:2]) if _SQLSTATE.fullmatch(word) else ()
    return next((_BY_WORD[known] for known in (word, *beginnings) if known in _BY_WORD), UNEXPECTED)


def see(word: str) -> str:
    """Where to read on about a kind of trouble or an error's type, as the end of a line."""
    return f"; see {symptom_of(word).place}"


def see_outage() -> str:
    """The same of an outage, of which nothing but its words is known."""
    return see("OperationalError")


def see_error(error: ModuleError) -> str:
    """The same of what a module failed with."""
    return f"; see {symptom_of_error(error).place}"


def symptom_of_error(error: ModuleError) -> Symptom:
    """That of what a module failed with. In the registry phase anything may be raised: it is the user's code."""
    known = symptom_of(error.error_type)
    return DEFINITION if known is UNEXPECTED and error.phase is Phase.REGISTRY else known
