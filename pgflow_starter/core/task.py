"""Tasks as values: what a worker claims and what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from pgflow_starter.core.evidence import MessageKey, TaskKey
from pgflow_starter.core.runs import EndedRun


class Lazy:
    """What is made when somebody asks for it, once. Thread-safe."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []

    def data(self) -> Any:
        """The same object at each call. Raises what making it does."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]  # of the threads that asked first at once, the first one's


class LazyJson(Lazy):
    """JSON text that is decoded when somebody asks for what it says.

    Raises ValueError, RecursionError then where Python cannot read it.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__(partial(json.loads, text))
        self.text = text


class Task(NamedTuple):
    """One claimed task. `input` is in the one shape that handlers see, whatever the core; `attempt` counts from 1.

    Nothing in it is another task's, for handlers may change what they are given. `flow_input` is data or `LazyJson`.
    `unreadable` says why the input cannot be had in Python, where that is so: PostgreSQL stores JSON that is nested
    deeper, and integers that are longer, than Python's parser takes. `headers` are the message's, as JSON text.
    `step_queue`: that of its step, where each step of its flow has one. `waited`: for how many seconds the message was
    visible until it was claimed, None where it has no headers.
    """

    run_id: UUID
    flow_slug: str
    step_slug: str
    task_index: int
    msg_id: int
    attempt: int
    input: Any
    flow_input: Any
    unreadable: str | None = None
    headers: str | None = None
    step_queue: str | None = None
    waited: float | None = None

    @property
    def queue(self) -> str:
        """The one that its message is in."""
        return self.step_queue or self.flow_slug

    @property
    def message(self) -> MessageKey:
        """What tells its message from all others."""
        return self.queue, self.msg_id

    @property
    def key(self) -> TaskKey:
        """What tells it from all others."""
        return self.run_id, self.step_slug, self.task_index


class Barred(NamedTuple):
    """A step of which no task can be claimed, for what its own queue is like; the steps beside it go on.

    `error_type` is that of the error which would say so.
    """

    step: str
    reason: str
    error_type: str


class Claimed(NamedTuple):
    """What a claim came to: how many messages were read, and the tasks of those that there was something to do for.

    `visible_in` is in how many seconds the next message becomes visible, or may, where the claim was not full.
    `nobodys` messages had no task to be started and are left alone for a while, `refused` says of which message, and
    why, the task could not be; of `locked` ones it is queued, and somebody has it locked. `hidden` names the tables of
    which row level security hides rows for certain, where that is why none was, `veiled` those of which it may hide
    some. Tasks of the `unknown` steps, which the worker's code does not have, were given back. `queue` is the one of a
    step that this is said of, where each step has one; then, too, steps may be `barred`.
    """

    read: int
    tasks: tuple[Task, ...]
    visible_in: float | None = None
    nobodys: int = 0
    refused: tuple[tuple[MessageKey, str], ...] = ()
    hidden: tuple[str, ...] = ()
    veiled: tuple[str, ...] = ()
    locked: int = 0
    unknown: frozenset[str] = frozenset()
    queue: str | None = None
    barred: tuple[Barred, ...] = ()

    def and_of(self, other: Claimed) -> Claimed:
        """Both, of two queues of one flow; what there is to be said is named by the first."""
        visible = [seconds for seconds in (self.visible_in, other.visible_in) if seconds is not None]
        said = self if self.nobodys or self.locked or self.hidden or self.veiled else other
        return Claimed(
            self.read + other.read,
            self.tasks + other.tasks,
            min(visible, default=None),
            self.nobodys + other.nobodys,
            self.refused + other.refused,
            tuple(dict.fromkeys(self.hidden + other.hidden)),
            tuple(dict.fromkeys(self.veiled + other.veiled)),
            self.locked + other.locked,
            self.unknown | other.unknown,
            said.queue,
        )


class OutcomeKind(StrEnum):
    """How a task ended: pgflow's `complete_task`, its `fail_task`, or failed with no attempt left; or not: later.

    What pgflow ignored when it was written, for the task was no more to be ended, is `IGNORED` from then on.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    FAILED_FOR_GOOD = "failed_for_good"
    SNOOZED = "snoozed"
    IGNORED = "ignored"


STARTED_AGAIN = "started again"
"""Where a task stands of which another attempt has begun."""


class Ignored(NamedTuple):
    """Where a task and its run stand whose outcome pgflow ignored; None for what is in the database no more."""

    task: str | None
    run: str | None

    @property
    def usual(self) -> bool:
        """Whether it is what comes of a run, or a step, that ends while its tasks are under way."""
        return self.run != "started" or self.task in ("cancelled", "skipped", "started", STARTED_AGAIN)

    @property
    def without_effect(self) -> bool:
        """Whether nothing says why: the task is as it was, in a run that goes on."""
        return self.run == "started" and self.task == "started"

    def __str__(self) -> str:
        if self.run is None:
            return "the run is in the database no more"
        if self.run != "started":
            return f"the run is {self.run}"
        if self.task == "started":
            return "the run or the step has ended"
        return f"the task is {self.task}"


class Outcome(NamedTuple):
    """What became of a task: its output as JSON text, or the error's type and the text that is stored with it.

    One that snoozes is visible again at `until`, on the monotonic clock.
    """

    task: Task
    kind: OutcomeKind
    output_json: str = "null"
    error: str = ""
    error_type: str = ""
    until: float = 0.0


class Settled(list[Outcome]):
    """What settling came to: the outcomes that are not written, for somebody has locked their run.

    `ignored` are those among the others that pgflow ignored, each with why. `ended` are the runs that ended by what was
    written, of those whose messages carry a trace context.
    """

    def __init__(
        self,
        locked: Iterable[Outcome] | None,
        ignored: Sequence[tuple[Outcome, Ignored]] = (),
        ended: Sequence[EndedRun] = (),
    ) -> None:
        super().__init__(locked or ())
        self.ignored = ignored
        self.ended = ended

    def and_of(self, other: Settled) -> Settled:
        """Both."""
        return Settled([*self, *other], [*self.ignored, *other.ignored], [*self.ended, *other.ended])
