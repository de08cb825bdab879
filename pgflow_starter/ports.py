"""What the actors and workers ask of the world, as protocols; adapters in other rooms fulfil them.

For type checkers: where it is only named in annotations, nobody loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias
from uuid import UUID

from pgflow_starter.core.compiled import Compiled
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.evidence import Evidence, MessageKey, TaskKey
from pgflow_starter.core.failure import RecordOutcome
from pgflow_starter.core.heard import Heard
from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.readings import PoolUse, QueueDepth
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.state import MissedTicks, ModuleState, Outage, StarterStatus, WorkerState
from pgflow_starter.core.task import Claimed, Outcome, Task


class CancelScope(Protocol):
    """How a phase or a claim that waits lets itself be interrupted."""

    def interruptible(self, cancel: Callable[[], None]) -> AbstractContextManager[None]:
        """While inside, `cancel` is called (from another thread) when it takes too long or has to end."""


class PhaseObserver(Protocol):
    """Watches one phase."""

    def current(self) -> AbstractContextManager[None]:
        """Around what this thread does for it."""

    def ended(self, error: BaseException | None) -> None:
        """How it ended. Called once."""


class AttemptObserver(Protocol):
    """Watches one attempt. `phase` is called on whichever thread, the rest is told on the module's actor."""

    def phase(self, phase: Phase) -> PhaseObserver | None:
        """A phase begins; None where nobody watches it."""

    def ended(self, state: ModuleState, delay: float | None) -> None:
        """The attempt's result; `delay` seconds until the next, where one is scheduled."""

    def cut_short(self) -> None:
        """The starter has ended; the attempt may have, too, or never will."""


class Observer(Protocol):
    """Watches a starter. Must be quick and never raise into it; called from many threads."""

    def started(self, modules: Sequence[ModuleSpec]) -> Callable[[], None]:
        """The starter began; what it returns tells the rest, on a thread that may take its time."""

    def asking(self) -> object | None:
        """On the thread that asks for an attempt: what `attempt` shall know of the asker."""

    def attempt(self, state: ModuleState, previous: AttemptObserver | None, asked: object | None) -> AttemptObserver:
        """An attempt began; `previous` is the module's last one, `asked` what `asking` said, if somebody asked."""

    def ready(self, states: Sequence[ModuleState], seconds: float) -> None:
        """All modules are terminal, `seconds` after the start or after the turn away from ready."""


class ActorObserver(Protocol):
    """Watches supervisors. Must be quick and never raise into them; called on their threads."""

    def died(self, supervisor: str, actor: str, reason: BaseException | None, *, restarting: bool) -> None:
        """A child ended unexpectedly, of `reason` or stopped from outside; whether it is to be started again."""

    def restarted(self, supervisor: str, actor: str) -> None:
        """A child was started again, its `on_start` has returned."""


class ListenObserver(Protocol):
    """Watches the LISTEN connection. Must be quick and never raise into it; called on its thread."""

    def disconnected(self, error: BaseException) -> None:
        """It was listening, and is no more."""

    def reconnected(self) -> None:
        """It is listening again."""


class ScheduleObserver(Protocol):
    """Watches schedules. Must be quick and never raise into them; called on the scheduler's thread."""

    def tick_started(self, name: str, late: float) -> None:
        """A run of the schedule was started, `late` seconds after its time."""

    def ticks_missed(self, name: str, missed: MissedTicks) -> None:
        """Nobody started these ticks of the schedule, and nobody will."""


class HandlerObserver(Protocol):
    """Watches one handler. Entered before it and left after it, on its thread; what it gives is told what became of it.

    Must be quick and never raise by itself; leaving it may take its time where it is `heard`.
    """

    @property
    def heard(self) -> bool:
        """Whether it is told to anybody."""

    def __enter__(self) -> RecordOutcome: ...

    def ended(self) -> None:
        """The handler has, just now. In the context that this was entered in: it may be left on any thread then."""

    def __exit__(self, *_: object) -> None: ...


class MessageObserver(Protocol):
    """Watches messages. Must be quick and never raise by itself; called from many threads."""

    def sending(
        self, queue: str, run_ids: Sequence[UUID], rerun_of: Sequence[UUID] = ()
    ) -> AbstractContextManager[str | None]:
        """Around starting these runs, each a `rerun_of` another perhaps.

        The headers for their messages, a JSON object, where they shall have some.
        """

    def woken(self, queue: str) -> None:
        """The queue's worker was told that there may be messages."""

    def received(self, queue: str, claimed: Claimed, seconds: float) -> object | None:
        """A claim took so long and came to this; what `processing` its tasks shall know of it."""

    def processing(self, task: Task, received: object | None) -> HandlerObserver:
        """Around a task's handler."""

    def carried(self, headers: str) -> str | None:
        """Of a message's headers those that each later message of its run shall have; None where there are none."""

    @property
    def traces(self) -> bool:
        """Whether it is of use to tell of runs that have `ended`."""

    def ended(self, runs: Sequence[EndedRun]) -> None:
        """These runs have ended by what was written here, and that is committed. May take its time."""


class TallyObserver(Protocol):
    """Is told what is counted of tasks and runs. Must be quick and never raise by itself; called from many threads."""

    @property
    def heard(self) -> bool:
        """Whether it is told to anybody."""

    def retried(self, task: Task) -> None:
        """An attempt failed, which was written, and the task has another."""

    def runs_ended(self, flow_slug: str, status: str, count: int) -> None:
        """So many runs of that flow ended so, by what became of tasks here."""


class GaugeSource(Protocol):
    """One starter, as gauges read it. Never waits, for the database least of all."""

    def status(self) -> StarterStatus:
        """All modules."""

    def worker_states(self) -> Sequence[WorkerState]:
        """The workers of this process."""

    def pool_use(self) -> PoolUse:
        """The connections."""

    def database_name(self) -> str:
        """The database's, empty before it was seen."""

    def queue_depths(self) -> Sequence[QueueDepth]:
        """What was last read of the queues of its workers; none where that failed, or before. Has it read anew."""


class FlowStore(Protocol):
    """Flows and workers in the database; for phases. Blocks on I/O; thread-safe."""

    def compile(self, definition: FlowDefinition, scope: CancelScope) -> Compiled:
        """Create the flow or verify its shape. Raises ShapeMismatchError, NotInstalledError, DatabaseError."""

    def verify(
        self, definitions: Sequence[FlowDefinition], scope: CancelScope, *, notify: bool
    ) -> Mapping[str, Compiled]:
        """Those that are stored already, by slug, and in the same shape. Raises NotInstalledError, DatabaseError.

        Looks at their notifications as well where they shall `notify`.
        """

    def register_workers(self, workers: Sequence[tuple[UUID, str]], scope: CancelScope) -> None:
        """Make the workers (id, slug) known to pgflow; again is no harm."""

    def notifies(self, queue: str, throttle_ms: int) -> bool:
        """Whether `verify` saw a moment ago that it does, as `enable_notify` would have it. Does not wait."""

    def enable_notify(self, queue: str, throttle_ms: int, scope: CancelScope) -> None:
        """Let inserts into the queue notify, at most every `throttle_ms` milliseconds (0: every one)."""


class TaskStore(Protocol):
    """Messages and tasks in the database; for workers. Blocks on I/O; thread-safe. All raise DatabaseError."""

    def claim(
        self, definition: FlowDefinition, worker_id: UUID, quantity: int, scope: CancelScope, answers: float
    ) -> Claimed:
        """Read up to `quantity` visible messages and start their tasks, within `answers` times the usual limit.

        Those of steps that the definition does not have are given back, for longer each time. Raises UnknownFlowError,
        too, when the flow or the worker is in the database no more.
        """

    def look(self, workers: Sequence[tuple[UUID, str]]) -> list[float | None]:
        """For each worker (id, slug): in how many seconds a queue of its has a visible message, None when it has none.

        0 also where the claim will fail.
        """

    def settle(self, outcomes: Sequence[Outcome], answers: float, careful: bool = False) -> Sequence[Outcome]:
        """Write what became of tasks, within `answers` times the usual limit; those whose run somebody has locked.

        These are not written, all others are; a `Settled` tells which of them pgflow ignored, and which runs ended. A
        `careful` call waits for no row that is locked. Doing it again after a lost connection is no harm.
        """

    def give_back(self, worker_id: UUID, tasks: Sequence[Task]) -> set[tuple[UUID, str, int]]:
        """Make tasks that the worker started claimable by others at once, their attempt not counted.

        Those that somebody has locked stay as they are; the others' run, step and index are returned.
        """

    def started_by(self, workers: Sequence[UUID]) -> Sequence[tuple[UUID, Task]]:
        """What the database holds as started by these workers, with the worker's id."""

    def recover_stalled(
        self,
        slugs: Sequence[str],
        own: Sequence[UUID],
        stale_threshold: float,
        ended: Callable[[Sequence[EndedRun]], object],
    ) -> int:
        """Give tasks whose worker's heartbeat is older than `stale_threshold` seconds their next attempt, or fail them.

        Of another runtime's worker those only that are older than their step's timeout and half a minute. Not those of
        the workers in `own`. A thousand at most; how many it were is returned. `ended` is told of the runs that have
        ended by it.
        """

    def evidence(
        self, slugs: Sequence[str], lost: Mapping[str, Sequence[TaskKey]], doubted: Mapping[str, Iterable[MessageKey]]
    ) -> Mapping[str, Evidence]:
        """What there is to say of the queues of each of these flows.

        Tasks that were `lost` are looked at again; of the `doubted` messages were read that could not be started, these
        among them.
        """

    def heartbeat(self, workers: Sequence[UUID], runs: Collection[UUID] = ()) -> Heard:
        """Say that the workers are alive, and hear of them, and of these runs, some of whose tasks are under way."""

    def keep_young(self, workers: Sequence[UUID]) -> None:
        """See to it that nobody who goes by the age of tasks takes those of these workers."""

    def workers_stopped(self, workers: Sequence[UUID]) -> None:
        """Say that the workers have stopped, of all in one statement."""


class QueueDepthStore(Protocol):
    """How much is in queues. Blocks on I/O; thread-safe."""

    def depths(self, queues: Sequence[str]) -> Sequence[QueueDepth]:
        """Of each of the queues that is there and may be read. Raises DatabaseError."""


class RunEndStore(Protocol):
    """How runs ended. Blocks on I/O; thread-safe."""

    def ended_by(self, tasks: Sequence[TaskKey], workers: Collection[UUID]) -> Mapping[tuple[str, str], int]:
        """How many runs ended with what became of one of these tasks in these workers, by flow and status.

        Raises DatabaseError.
        """


class QueueListener(Protocol):
    """The one LISTEN connection of a process. Thread-safe."""

    def listen(self, queue: str, wake: Callable[[], object], done: Callable[[BaseException | None], object]) -> None:
        """Call `wake` for each notification of the queue. Does not wait.

        `done` is told once, perhaps from another thread: None once LISTEN is in force, or a DatabaseError.
        """

    def unlisten(self, queue: str) -> None:
        """Stop calling; does not wait."""


class Reachability(Protocol):
    """Whether the database can be reached, judged by one shared connection probe. Thread-safe."""

    @property
    def outage(self) -> Outage | None:
        """None while the database is reachable."""

    def watch(self, back: Callable[[], object]) -> None:
        """Call `back` (from any thread, quick) each time the database is reachable again."""


Pruning: TypeAlias = Generator[int, None, int | None]
"""Finished runs being deleted, some with each step, which blocks on I/O and yields how many. At the end how many were
left for the next time; None where another process is at it. Raises PgflowError."""

Redact = Callable[[str], str]
