"""Moments as OpenTelemetry counts them."""

from __future__ import annotations

from pgflow_starter.clock import Clock

NANOSECONDS = 1_000_000_000
"""In a second."""


def nanoseconds(clock: Clock) -> int:
    """Now, since 1970."""
    return int(clock.now().timestamp() * NANOSECONDS)
