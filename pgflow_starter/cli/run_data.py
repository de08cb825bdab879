"""A run as JSON has it."""

from __future__ import annotations

from typing import Any

from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.postgres.client.run import Run

_ALWAYS = ("id", "flow_slug", "status", "error", "started_at", "ended_at", "notes")


def run_data(run: Run, *, payloads: bool = True) -> dict[str, Any]:
    """What is known of it, as JSON-ready data; input and output with `payloads` alone."""
    names = (*_ALWAYS, "input", "output") if payloads else _ALWAYS
    return {name: json_ready(getattr(run, name)) for name in names}
