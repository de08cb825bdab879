"""`Guard`: whatever a provider raises goes no further."""

from __future__ import annotations

import logging
from types import TracebackType

logger = logging.getLogger("pgflow_starter.telemetry")


class Guard:
    """Around calls of OpenTelemetry's: what they raise is logged, each class of error once. Thread-safe, reentrant.

    One for everybody who tells of the same starter, for one broken provider fails them all.
    """

    def __init__(self) -> None:
        self._logged: set[type[BaseException]] = set()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, (Exception, SystemExit)):
            return False
        if kind not in self._logged:
            self._logged.add(kind)
            logger.error("telling OpenTelemetry failed, which is said once", exc_info=error)
        return True
