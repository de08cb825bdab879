"""`PgflowClient`: the client that users make themselves, with its telemetry."""

from __future__ import annotations

from typing import Any

from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.client.aio import AioClient
from pgflow_starter.postgres.client.client import Client
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.providers import Providers


class PgflowClient(Client):
    """Starts and reads runs, over a small pool of its own that opens with the first call. Thread-safe.

    Every error is a PgflowError or TimeoutError. While the database is away a call waits for the next look at it, up to
    `patience` seconds. A context manager: `close` ends the pool; one that is dropped does so, with a warning.
    It belongs to the process of its first call: in a child forked from that one calls raise ForkedError. What it sends
    is told to `tracer_provider`, by default OpenTelemetry's global one.
    """

    def __init__(self, conninfo: str, *, patience: float = 30.0, tracer_provider: Any = None) -> None:
        clock = SystemClock()
        super().__init__(conninfo, OtelMessages(Providers(clock, tracer_provider), clock), clock, patience=patience)

    @property
    def aio(self) -> AioClient:
        """The same calls as coroutines."""
        return AioClient(self, self._coroutines)
