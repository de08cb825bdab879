"""`Schedule`: that a flow or job is started on time, as a value; and the id of the run that a tick of it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pgflow_starter.core.cron import cron_problem, require_cronsim, timezone_problem
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.flow import Flow, Job
from pgflow_starter.core.inputs import Inputs
from pgflow_starter.core.modules import FlowModule, definition_of
from pgflow_starter.core.rules import is_number, refuse, slug_problem
from pgflow_starter.errors import DefinitionError

_LONGEST = timedelta(days=366)
_LONGEST_NAME = 100


class CatchUp(StrEnum):
    """Which of the ticks are started afterwards that were missed, none of them by more than `catch_up_within`."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Schedule:
    """That a flow or job, as object or slug, is started with `input` at each tick of `cron`; for `start(schedules=)`.

    `cron` has five fields, or six with the seconds first, and is read in `timezone`, a name such as `Europe/Berlin`.
    `name` (default: the slug) and tick make the run's id, so that any number of processes start each tick once; two
    schedules of one name are refused by `start`. `catch_up` says which ticks are started later that were missed, by
    less than `catch_up_within` seconds: `"none"`, the `"last"` of them, or `"all"`, oldest first.

    Raises ValueError naming every bad value, an `input` that does not fit what the flow's first handlers take included.
    """

    cron: str
    flow: FlowModule | str
    input: Any = None
    timezone: str = "UTC"
    name: str | None = None
    catch_up: CatchUp | Literal["none", "last", "all"] = CatchUp.NONE
    catch_up_within: float = 3600.0
    slug: str = field(init=False, repr=False, compare=False)
    """Of the flow or job."""

    def __post_init__(self) -> None:
        slug, definition, problem = _known_of(self.flow)
        object.__setattr__(self, "slug", slug)
        who = f"schedule {self.name or slug or self.cron!r}"
        found = (problem, cron_problem(self.cron), timezone_problem(self.timezone), *self._own_problems(definition))
        refuse(f"{who}: {p}" for p in found if p)
        object.__setattr__(self, "catch_up", CatchUp(self.catch_up))

    @property
    def title(self) -> str:
        """Its name, which is the slug where it has none of its own."""
        return self.name or self.slug

    @property
    def policy(self) -> CatchUp:
        """`catch_up`."""
        return CatchUp(self.catch_up)

    def run_id(self, tick: datetime) -> UUID:
        """The id of the run of that tick: UUID version 5 of the URL `pgflow-schedule:NAME:2026-11-29T07:00:00Z`."""
        return uuid5(NAMESPACE_URL, f"pgflow-schedule:{self.title}:{tick.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")

    def _own_problems(self, definition: FlowDefinition | None) -> Iterator[str]:
        name, within = self.name, self.catch_up_within
        if name is not None and not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
            yield f"name must be a text of 1 to {_LONGEST_NAME} printable characters, got {name!r}"
        if self.catch_up not in tuple(CatchUp):
            yield f"catch_up must be {' or '.join(map(repr, map(str, CatchUp)))}, got {self.catch_up!r}"
        if not is_number(within) or not 0 < within <= _LONGEST.total_seconds():
            yield f"catch_up_within must be seconds above 0 and at most {_LONGEST.days} days, got {within!r}"
        try:
            Inputs(definition).text(self.input)
        except ValueError as error:
            yield str(error)


def schedules_problems(schedules: object) -> Iterator[str]:
    """What is wrong with what is to be a list of schedules. Raises MissingExtraError without cronsim.

    What is none is told by its type, for it may be one Schedule, or made like one, and hold an input.
    """
    if isinstance(schedules, str) or not isinstance(schedules, Iterable):
        yield f"schedules must be a list of Schedule objects, got a {type(schedules).__name__}"
        return
    good: list[Schedule] = []
    for number, schedule in enumerate(schedules):
        if isinstance(schedule, Schedule):
            good.append(schedule)
        else:
            yield f"schedules[{number}] must be a Schedule, got a {type(schedule).__name__}"
    if good:
        require_cronsim()
    by_name: dict[str, Schedule] = {}
    for schedule in good:
        other = by_name.get(schedule.title)
        if other is schedule:
            yield f"schedule {schedule.title!r} is listed twice"
        elif other is not None:
            yield (
                f"two schedules are named {schedule.title!r}: {other.cron!r} of {other.slug} and {schedule.cron!r} of"
                f" {schedule.slug}; give one of them a name of its own"
            )
        by_name[schedule.title] = schedule


def retention_problems(
    schedules: Sequence[Schedule], completed: timedelta | None, failed: timedelta | None
) -> Iterator[str]:
    """Which of them could start a run again that was pruned; None: those are kept for ever."""
    kept = min((kept for kept in (completed, failed) if kept is not None), default=None)
    for schedule in schedules:
        within = timedelta(seconds=schedule.catch_up_within)
        if kept is not None and schedule.policy is not CatchUp.NONE and within >= kept:
            yield (
                f"schedule {schedule.title}: catch_up_within must be below the retention of {kept}, or runs that were"
                f" pruned would be started again, got {within}"
            )


def _known_of(flow: Any) -> tuple[str, FlowDefinition | None, str | None]:
    """The slug, the definition where it is there by now, and what is wrong with the one or with what it is of."""
    if isinstance(flow, str):
        return flow, None, slug_problem("flow", flow)
    try:
        definition = definition_of(flow)
    except DefinitionError as error:
        if isinstance(flow, Flow | Job):  # it has no step yet
            return flow.slug, None, None
        return "", None, f"flow must be a flow, a job or a slug: {error}"
    return definition.slug, definition, None
