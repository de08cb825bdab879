"""What there is to run: flows, jobs and schedules in the `flows.py` of installed apps."""

from __future__ import annotations

import sys

from django.apps import apps
from django.utils.module_loading import autodiscover_modules

from pgflow_starter.core.flow import Flow, Job
from pgflow_starter.core.schedule import Schedule


def discovered() -> tuple[str, ...]:
    """The paths to all of them, each once, in the order of INSTALLED_APPS. Raises what importing a `flows.py` does."""
    autodiscover_modules("flows")
    found: dict[int, str] = {}
    for config in apps.get_app_configs():
        module = sys.modules.get(f"{config.name}.flows")
        for name, value in vars(module).items() if module else ():
            if isinstance(value, Flow | Job | Schedule):
                found.setdefault(id(value), f"{config.name}.flows:{name}")
    return tuple(found.values())
