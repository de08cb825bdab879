"""What the paths named on the command line lead to: flows, jobs, as each definition says itself, and schedules."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from pgflow_starter.cli.signals import Signals
from pgflow_starter.core.modules import definition_of, load
from pgflow_starter.core.schedule import Schedule
from pgflow_starter.core.state import ModuleType

logger = logging.getLogger("pgflow_starter.cli")

PATIENCE = 10.0
"""Seconds that one module may take to be imported and to tell its kind."""


class Named(NamedTuple):
    """What was named, each in the order given: `start` takes them under these names."""

    flows: list[str]
    jobs: list[str]
    schedules: list[Schedule]


def named(paths: Sequence[str], signals: Signals) -> Named:
    """What the paths lead to.

    A path that cannot be loaded, or not in time, counts as a flow: the starter will show what is wrong with it.
    Raises Interrupted when a signal comes meanwhile.
    """
    found = Named([], [], [])
    for path in paths:
        kind = _kind(path, signals)
        if isinstance(kind, Schedule):
            found.schedules.append(kind)
        else:
            (found.jobs if kind is ModuleType.JOB else found.flows).append(path)
    return found


def _kind(path: str, signals: Signals) -> ModuleType | Schedule | None:
    # One after the other: a module may hang or exit as it is imported, and modules that import each other must not be
    # imported at the same time.
    try:
        return signals.aside(partial(_look, path), PATIENCE, f"pgflow-import-{path}")
    except TimeoutError:
        logger.warning("%s has not been imported within %g s and counts as a flow for now", path, PATIENCE)
        return None


def _look(path: str) -> ModuleType | Schedule | None:
    try:
        found = load(path)
        return found if isinstance(found, Schedule) else definition_of(path).kind
    except BaseException as error:
        logger.debug("%s counts as a flow: %s", path, error)
        return None
