"""Which of the modules named on the command line are jobs: each definition says so itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from pgflow_starter.cli.signals import Signals
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.state import ModuleType

logger = logging.getLogger("pgflow_starter.cli")

PATIENCE = 10.0
"""Seconds that one module may take to be imported and to tell its kind."""


def flows_and_jobs(paths: Sequence[str], signals: Signals) -> tuple[list[str], list[str]]:
    """The paths of flows and those of jobs, in the order given.

    A path that cannot be loaded, or not in time, counts as a flow: the starter will show what is wrong with it.
    Raises Interrupted when a signal comes meanwhile.
    """
    flows: list[str] = []
    jobs: list[str] = []
    for path in paths:
        (jobs if _kind(path, signals) is ModuleType.JOB else flows).append(path)
    return flows, jobs


def _kind(path: str, signals: Signals) -> ModuleType | None:
    # One after the other: a module may hang or exit as it is imported, and modules that import each other must not be
    # imported at the same time.
    try:
        return signals.aside(partial(_look, path), PATIENCE, f"pgflow-import-{path}")
    except TimeoutError:
        logger.warning("%s has not been imported within %g s and counts as a flow for now", path, PATIENCE)
        return None


def _look(path: str) -> ModuleType | None:
    try:
        return definition_of(path).kind
    except BaseException as error:
        logger.debug("%s counts as a flow: %s", path, error)
        return None
