"""`AioRun`: one run of a flow, as `Client.aio` saw it last."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Protocol
from uuid import UUID

from pgflow_starter.core.generics import Out, Output
from pgflow_starter.postgres.client.run import Run, RunFacts
from pgflow_starter.postgres.client.steps import StepRun


class AioReader(Protocol):
    """What a run asks: the client that saw it."""

    async def run(self, run_id: UUID) -> AioRun:
        """As `AioRun.refresh`."""

    async def steps(self, run_id: UUID) -> tuple[StepRun, ...]:
        """As `AioRun.steps`."""

    async def wait(self, run: AioRun[Output], timeout: float | None) -> AioRun[Output]:
        """As `AioRun.wait`."""


@dataclass(frozen=True, slots=True)
class AioRun(RunFacts[Out]):
    """One run, with the fields of `Run`; what it asks the database for is to be awaited."""

    _aio: AioReader = field(kw_only=True, repr=False, compare=False)

    async def refresh(self) -> AioRun[Out]:
        """As `Run.refresh`."""
        return await self._aio.run(self.id)

    async def steps(self) -> tuple[StepRun, ...]:
        """As `Run.steps`."""
        return await self._aio.steps(self.id)

    async def wait(self, timeout: float | None = None) -> AioRun[Out]:
        """As `Run.wait`. However many wait, one thread looks for all."""
        return await self._aio.wait(self, timeout)


def aio_run(run: Run[Output], aio: AioReader) -> AioRun[Output]:
    """The same, for coroutines."""
    return AioRun(*(getattr(run, f.name) for f in fields(run)), _aio=aio)
