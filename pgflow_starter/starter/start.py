"""`start`: from settings and modules to a running starter."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Unpack

from pgflow_starter.config import settings_from
from pgflow_starter.core.modules import FlowModule, module_specs
from pgflow_starter.starter.handle import Starter
from pgflow_starter.starter.per_process import Runtimes
from pgflow_starter.starter.runtime import Runtime
from pgflow_starter.starter.settings import StartSettings


def start(
    conninfo: str,
    *,
    flows: Iterable[FlowModule | str] = (),
    jobs: Iterable[FlowModule | str] = (),
    **settings: Unpack[StartSettings],
) -> Starter:
    """Register the modules in the background and run their workers; returns at once, without I/O in this thread.

    `conninfo` is a libpq connection string or URI; the database may be up, down or wrong. `flows` and `jobs` hold flow
    modules or dotted paths to them. `settings` are those of `Settings`, in seconds where they are times. Raises
    ValueError naming every bad setting and every module that is listed twice, TypeError for a list that is none.
    """
    checked = settings_from(conninfo, settings)
    specs = module_specs(flows, jobs)
    runtimes = Runtimes(partial(Runtime, conninfo, specs, checked), lazy=checked.lazy)
    return Starter(runtimes, [spec.name for spec in specs])
