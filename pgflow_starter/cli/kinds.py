"""Which of the modules named on the command line are jobs: each definition says so itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.state import ModuleType

logger = logging.getLogger("pgflow_starter.cli")

PATIENCE = 10.0
"""Seconds that one module may take to be imported and to tell its kind."""


def flows_and_jobs(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths of flows and those of jobs, in the order given.

    A path that cannot be loaded, or not in time, counts as a flow: the starter will show what is wrong with it.
    """
    kinds = [_kind(path) for path in paths]
    pairs = list(zip(paths, kinds, strict=True))
    return (
        [path for path, kind in pairs if kind is not ModuleType.JOB],
        [path for path, kind in pairs if kind is ModuleType.JOB],
    )


def _kind(path: str) -> ModuleType | None:
    # On a thread, one after the other: a module may hang or exit as it is imported, and modules that import each other
    # must not be imported at the same time.
    found: list[ModuleType | None] = []
    thread = threading.Thread(target=_look, args=(path, found), name=f"pgflow-import-{path}", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        logger.warning("%s has not been imported within %g s and counts as a flow for now", path, PATIENCE)
    return found[0] if found else None


def _look(path: str, found: list[ModuleType | None]) -> None:
    try:
        found.append(definition_of(path).kind)
    except BaseException as error:
        logger.debug("%s counts as a flow: %s", path, error)
