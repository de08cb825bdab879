"""`--metrics`: a starter's metrics for Prometheus, at an address."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import MissingExtraError, installing
from pgflow_starter.web.address import bind, parse_address
from pgflow_starter.web.metrics import PATH, Metrics
from pgflow_starter.web.server import serve_application

logger = logging.getLogger("pgflow_starter.cli")


def serve_metrics(address: str, ends: ExitStack) -> dict[str, Any]:
    """Serve them there until `ends`; the settings with which a starter tells them.

    Returns at once, listening. Raises SetupError where it cannot be listened there, MissingExtraError.
    """
    try:
        import waitress  # noqa: F401 - to see whether it is there

        from pgflow_starter.telemetry.prometheus import Exposition
    except ImportError as error:
        msg = f"--metrics needs the extra prometheus ({error}): {installing('prometheus')}"
        raise MissingExtraError(msg) from None
    listening = bind(parse_address(address))
    exposition = Exposition()
    server = ends.enter_context(serve_application(Metrics(exposition, SystemClock()), listening))
    logger.info("serving metrics at %s%s", server.url, PATH)
    return {"meter_provider": exposition.provider}
