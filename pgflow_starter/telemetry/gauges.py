"""`Gauges`: what is measured when somebody looks: readiness, and what `observations` say.

OpenTelemetry's API neither removes a callback nor takes a second one for an instrument that is there, so all starters
that tell the same provider share one: it adds up their modules and tasks, and says ready when all of them are.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from pgflow_starter.telemetry import names, observations
from pgflow_starter.telemetry.observations import Sources

if TYPE_CHECKING:
    from pgflow_starter.ports import GaugeSource

_live: dict[int, weakref.ref[Gauges]] = {}
"""Those of all starters that are told of. For the process, as its meter providers are; held weakly, so that it keeps
no starter. No lock: each operation on it is atomic, and a forked child inherits it as it is."""


class Gauges:
    """One starter's. Reads what is published and asks nobody, so that looking never waits. Thread-safe."""

    def __init__(self, meter_provider: Any, source: GaugeSource) -> None:
        """The source is not kept alive."""
        self._provider = meter_provider
        self._pid = os.getpid()
        self._source = weakref.ref(source)
        self._terminated = False

    def open(self) -> None:
        """Told of from now on. Raises what the provider raises."""
        key = id(self)
        _live[key] = weakref.ref(self, lambda _: _live.pop(key, None))
        if self._provider is None:
            _install_globally()
        else:
            _install(self._provider)

    def close(self) -> None:
        """Not told of any more: the starter has stopped. Idempotent."""
        _live.pop(id(self), None)

    def terminated(self) -> None:
        """Told of as not ready from now on, whatever its modules say: it gave up, and nobody sees to them."""
        self._terminated = True

    @property
    def provider(self) -> Any:
        """The provider that it is told to now."""
        return metrics.get_meter_provider() if self._provider is None else self._provider

    @property
    def here(self) -> bool:
        """Whether it runs in this process: a forked child has its parent's objects, and not its threads."""
        return self._pid == os.getpid()

    def source(self) -> GaugeSource | None:
        """None when the starter is gone."""
        return self._source()

    def ready(self) -> bool:
        """Whether all its modules are terminal, and somebody sees to them."""
        source = self.source()
        return source is not None and source.status().ready and not self._terminated


@cache
def _install_globally() -> None:
    # Once: what stands in for a global provider keeps every meter that it is asked for.
    _install(None)


def _install(provider: Any) -> None:
    """The callbacks; where they are there already, an SDK keeps the first."""
    meter = metrics.get_meter(names.SCOPE, meter_provider=provider)
    mine = partial(_mine, metrics.get_meter_provider if provider is None else _reference(provider))
    meter.create_observable_gauge(
        names.METRIC_READY, [partial(_ready, mine)], "1", "1 when every module is terminal, else 0."
    )
    for name, unit, description, observe, adds_up in observations.ALL:
        create = meter.create_observable_up_down_counter if adds_up else meter.create_observable_gauge
        create(name, [partial(_observed, mine, observe)], unit, description)


def _reference(provider: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(provider)
    except TypeError:
        return lambda: provider


def _mine(provider: Callable[[], Any]) -> list[Gauges]:
    asking = provider()
    living = [gauges for reference in list(_live.values()) if (gauges := reference()) is not None]
    return [gauges for gauges in living if gauges.here and gauges.provider is asking]


def _ready(mine: Callable[[], list[Gauges]], _: CallbackOptions) -> Iterable[Observation]:
    starters = mine()
    return [Observation(int(all(g.ready() for g in starters)))] if starters else []


def _observed(
    mine: Callable[[], list[Gauges]], observe: Callable[[Sources], Iterable[Observation]], _: CallbackOptions
) -> Iterable[Observation]:
    return observe([source for gauges in mine() if (source := gauges.source()) is not None])
