"""What each gauge says of some starters: one provider's, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from opentelemetry.metrics import Observation

from pgflow_starter.core.state import ModuleStatus
from pgflow_starter.core.trouble import TroubleScope
from pgflow_starter.telemetry import names

if TYPE_CHECKING:
    from pgflow_starter.core.readings import QueueDepth
    from pgflow_starter.ports import GaugeSource

POOL = {names.POOL_NAME: "pgflow"}

Sources: TypeAlias = "Sequence[GaugeSource]"


def modules(sources: Sources) -> Iterable[Observation]:
    """Each status, as soon as there is a starter."""
    counts = Counter(state.status for source in sources for state in source.status().modules)
    return [Observation(counts[s], {names.MODULE_STATUS: str(s)}) for s in ModuleStatus] if sources else []


def active(sources: Sources) -> Iterable[Observation]:
    """Each flow that has a worker."""
    running: Counter[str] = Counter()
    for source in sources:
        for worker in source.worker_states():
            running[worker.slug] += worker.running
    return [Observation(n, {names.MESSAGING_DESTINATION: slug}) for slug, n in running.items()]


def trouble(sources: Sources) -> Iterable[Observation]:
    """Each flow that has a worker, by both scopes."""
    troubled: Counter[tuple[str, TroubleScope]] = Counter()
    for source in sources:
        for worker in source.worker_states():
            for scope in TroubleScope:
                troubled[worker.slug, scope] += worker.trouble is not None and worker.trouble.scope is scope
    return [
        Observation(n, {names.MESSAGING_DESTINATION: slug, names.TROUBLE_SCOPE: str(scope)})
        for (slug, scope), n in troubled.items()
    ]


def failing(sources: Sources) -> Iterable[Observation]:
    """Each schedule."""
    failed: Counter[str] = Counter()
    for source in sources:
        for schedule in source.status().schedules:
            failed[schedule.name] += schedule.last_error is not None
    return [Observation(n, {names.SCHEDULE_NAME: name}) for name, n in failed.items()]


def last_lateness(sources: Sources) -> Iterable[Observation]:
    """Each schedule whose last tick was started here."""
    most: dict[str, float] = {}
    for source in sources:
        for schedule in source.status().schedules:
            if schedule.last_late is not None:
                most[schedule.name] = max(most.get(schedule.name, 0.0), schedule.last_late)
    return [Observation(late, {names.SCHEDULE_NAME: name}) for name, late in most.items()]


def missed(sources: Sources) -> Iterable[Observation]:
    """Each schedule: what the process knows of that knows of most."""
    most: Counter[str] = Counter()
    for source in sources:
        for schedule in source.status().schedules:
            most[schedule.name] = max(most[schedule.name], schedule.missed.count if schedule.missed else 0)
    return [Observation(n, {names.SCHEDULE_NAME: name}) for name, n in most.items()]


def away(sources: Sources) -> Iterable[Observation]:
    """One number."""
    return [Observation(sum(source.status().outage is not None for source in sources))] if sources else []


def fast_lane(sources: Sources) -> Iterable[Observation]:
    """On and off, as soon as it is known of one."""
    states = [state for source in sources if (state := source.status().fast_lane) is not None]
    on = sum(state.on for state in states)
    counts = {"on": on, "off": len(states) - on} if states else {}
    return [Observation(n, {names.FAST_LANE_STATE: state}) for state, n in counts.items()]


def depth(sources: Sources) -> Iterable[Observation]:
    """Each queue that was read, by whether its messages can be."""
    for which, queue in _queues(sources):
        for state, count in (("waiting", queue.waiting), ("hidden", queue.hidden)):
            yield Observation(count, {**which, names.QUEUE_STATE: state})


def oldest(sources: Sources) -> Iterable[Observation]:
    """Each queue that was read."""
    for which, queue in _queues(sources):
        yield Observation(queue.oldest_age or 0.0, which)


def _queues(sources: Sources) -> Iterable[tuple[dict[str, str], QueueDepth]]:
    """Each of a database once, with which it is: starters of one database read the same."""
    found = {(source.database_name(), queue.queue): queue for source in sources for queue in source.queue_depths()}
    for (database, name), queue in found.items():
        yield {names.DATABASE: database, names.MESSAGING_DESTINATION: name}, queue


def pool(sources: Sources) -> Iterable[Observation]:
    """Idle and used."""
    uses = [source.pool_use() for source in sources]
    used = sum(use.used for use in uses)
    counts = {"idle": sum(use.made for use in uses) - used, "used": used} if uses else {}
    return [Observation(max(n, 0), {**POOL, names.POOL_STATE: state}) for state, n in counts.items()]


def pool_max(sources: Sources) -> Iterable[Observation]:
    """One number."""
    return [Observation(sum(source.pool_use().size for source in sources), POOL)] if sources else []


def pool_awaited(sources: Sources) -> Iterable[Observation]:
    """One number."""
    return [Observation(sum(source.pool_use().awaited for source in sources), POOL)] if sources else []


class Observed(NamedTuple):
    """An instrument, and what it says; `adds_up`: an up-down counter, of what processes have together."""

    name: str
    unit: str
    description: str
    observe: Callable[[Sources], Iterable[Observation]]
    adds_up: bool = False


ALL = (
    Observed(names.METRIC_MODULES, "{module}", "Modules by status.", modules),
    Observed(names.METRIC_ACTIVE, "{task}", "Tasks that were claimed and have not ended.", active, adds_up=True),
    Observed(names.METRIC_TROUBLE, "{worker}", "Workers that are kept from claiming or recording.", trouble),
    Observed(names.METRIC_FAILING, "{starter}", "Starters that could not start the schedule's last tick.", failing),
    Observed(names.METRIC_LAST_LATENESS, "s", "How late the schedule's last tick was started.", last_lateness),
    Observed(names.METRIC_MISSED, "{tick}", "Ticks that nobody started, until an hour after a later one was.", missed),
    Observed(names.METRIC_AWAY, "{starter}", "Starters that cannot reach their database.", away),
    Observed(names.METRIC_FAST_LANE, "{starter}", "Starters by whether their fast lane is on.", fast_lane),
    Observed(names.METRIC_DEPTH, "{message}", "Messages in the queue, above 20,000 of a state about so many.", depth),
    Observed(names.METRIC_OLDEST, "s", "For how long the queue's oldest message has been waiting to be read.", oldest),
    Observed(names.METRIC_POOL, "{connection}", "Connections of the pool.", pool, adds_up=True),
    Observed(names.METRIC_POOL_MAX, "{connection}", "Connections that the pool may have.", pool_max, adds_up=True),
    Observed(names.METRIC_POOL_AWAITED, "{request}", "Callers that wait for one.", pool_awaited, adds_up=True),
)
"""All but readiness, which is not only a matter of what a starter says."""
