"""What examples/deploy deploys, and where a starter that it starts listens."""

from __future__ import annotations

from pgflow_starter.config import Settings
from tests.support.commands import check
from tests.support.programs import ROOT

FOLDER = ROOT / "examples" / "deploy"
MODULES = ("shop:order", "shop:send_email")
GIVING_BACK = 2.0
"""Seconds beyond the shutdown_timeout that a stop may take."""

NEEDED = Settings().shutdown_timeout + GIVING_BACK
"""Seconds that whoever ends a process has to wait for it."""


def listens_at(command: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """The hosts and ports of `--http` and `--metrics` of `pgflow-starter run ...`, whose modules must be those that are
    deployed."""
    given = check(command).params
    assert given["modules"] == MODULES
    return _address(given["http"]), _address(given["metrics"])


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
