"""`guarded`: whatever a provider raises goes no further."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("pgflow_starter.telemetry")


@contextmanager
def guarded() -> Iterator[None]:
    """Around calls of OpenTelemetry's: what they raise is logged."""
    try:
        yield
    except (Exception, SystemExit):
        logger.exception("telling OpenTelemetry failed")
