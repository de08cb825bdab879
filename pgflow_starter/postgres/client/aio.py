"""`AioClient`: a client's calls, for coroutines. Each is the call of `Client` on a thread; waiting takes none.

A new call of `Client` is one more line here: `awaited` where it comes back with no run, else `awaited_run`,
`awaited_runs`, `awaited_details`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload
from uuid import UUID

from pgflow_starter.core.generics import Fitting, Message, Output
from pgflow_starter.core.modules import FlowModule
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.client.aio_run import AioRun, aio_run
from pgflow_starter.postgres.client.client import Client
from pgflow_starter.postgres.client.coroutines import Coroutines
from pgflow_starter.postgres.client.details import RunDetails
from pgflow_starter.postgres.client.driver_connection import driver_connection, tell_owner
from pgflow_starter.postgres.client.run import Run

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

Call = Callable[Concatenate[Client, P], T]
Awaited = Callable[Concatenate["AioClient", P], Coroutine[Any, Any, T]]


def awaited(call: Call[P, T]) -> Awaited[P, T]:
    """The call as a coroutine."""
    return _awaited(call, lambda _, result: result)


def awaited_run(call: Call[P, Run]) -> Awaited[P, AioRun]:
    """The same of one that comes back with a run."""
    return _awaited(call, lambda aio, run: aio_run(run, aio))


def awaited_runs(call: Call[P, Iterable[Run]]) -> Awaited[P, list[AioRun]]:
    """The same of one that comes back with runs."""
    return _awaited(call, lambda aio, runs: [aio_run(run, aio) for run in runs])


def awaited_details(call: Call[P, RunDetails[Run]]) -> Awaited[P, RunDetails[AioRun]]:
    """The same of the one that comes back with a run and its tasks."""
    return _awaited(call, lambda aio, seen: RunDetails(aio_run(seen.run, aio), seen.steps, seen.tasks))


def _awaited(call: Call[P, T], told: Callable[[AioClient, T], R]) -> Awaited[P, R]:
    @wraps(call)
    async def made(self: AioClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # A caller's own transaction is used by one at a time: who is cancelled has it back when the call has ended.
        given = kwargs.get("connection")
        keeps = given is not None
        if keeps:  # here, for which one it is may go by the context
            kwargs["connection"] = driver_connection(kwargs["connection"])
        of_client = partial(call, self._client, *args, **kwargs)
        try:
            return told(self, await self._coroutines.made(of_client, to_its_end=keeps))
        except DatabaseError:
            tell_owner(given)  # the call had but the driver's
            raise

    return made


class AioClient:
    """A client's calls as coroutines, in any event loop of asyncio, in several too. Thread-safe.

    They answer and raise what the client's own calls do. 16 of them are made at a time, on threads; the others wait for
    their turn. Of a call that is cancelled only the waiting ends: one that has begun is done as a whole, and what it
    comes to is dropped; with `connection=` it is waited for first. One that has not begun never will.
    """

    def __init__(self, client: Client, coroutines: Coroutines) -> None:
        self._client = client
        self._coroutines = coroutines

    def __repr__(self) -> str:
        return f"{self._client!r}.aio"

    if TYPE_CHECKING:  # what is generic would be lost on the way through `awaited_run`

        @overload
        async def start_flow(
            self,
            flow: FlowModule[Message, Output] | str,
            input: Fitting[Message],
            *,
            run_id: UUID | str | None = None,
            key: str | None = None,
            delay: float | None = None,
            at: datetime | None = None,
            connection: Any = None,
        ) -> AioRun[Output]: ...

        @overload
        async def start_flow(
            self,
            flow: FlowModule[None, Output] | str,
            *,
            run_id: UUID | str | None = None,
            key: str | None = None,
            delay: float | None = None,
            at: datetime | None = None,
            connection: Any = None,
        ) -> AioRun[Output]: ...

        async def start_flow(self, flow: FlowModule | str, input: Any = None, **options: Any) -> AioRun[Any]: ...

        @overload
        async def enqueue(
            self,
            job: FlowModule[Message, Output] | str,
            input: Fitting[Message],
            *,
            run_id: UUID | str | None = None,
            key: str | None = None,
            delay: float | None = None,
            at: datetime | None = None,
            connection: Any = None,
        ) -> AioRun[Output]: ...

        @overload
        async def enqueue(
            self,
            job: FlowModule[None, Output] | str,
            *,
            run_id: UUID | str | None = None,
            key: str | None = None,
            delay: float | None = None,
            at: datetime | None = None,
            connection: Any = None,
        ) -> AioRun[Output]: ...

        async def enqueue(self, job: FlowModule | str, input: Any = None, **options: Any) -> AioRun[Any]: ...

        async def start_flows(
            self,
            flow: FlowModule[Message, Output] | str,
            inputs: Iterable[Fitting[Message]],
            *,
            run_ids: Iterable[UUID | str] | None = None,
            keys: Iterable[str] | None = None,
            delay: float | None = None,
            at: datetime | None = None,
            connection: Any = None,
        ) -> list[AioRun[Output]]: ...

        async def enqueue_many(
            self,
            job: FlowModule[Message, Output] | str,
            inputs: Iterable[Fitting[Message]],
            *,
            run_ids: Iterable[UUID | str] | None = None,
            keys: Iterable[str] | None = None,
            delay: float | None = None,
            at: datetime | None = None,
            connection: Any = None,
        ) -> list[AioRun[Output]]: ...

    else:
        start_flow = awaited_run(Client.start_flow)
        enqueue = awaited_run(Client.enqueue)
        start_flows = awaited_runs(Client.start_flows)
        enqueue_many = awaited_runs(Client.enqueue_many)

    run = awaited_run(Client.run)
    steps = awaited(Client.steps)
    cancel = awaited_run(Client.cancel)
    rerun = awaited_run(Client.rerun)
    rerun_all = awaited_runs(Client.rerun_all)
    delete = awaited(Client.delete)
    delete_flow = awaited(Client.delete_flow)
    prune = awaited(Client.prune)
    runs = awaited(Client.runs)
    details = awaited_details(Client.details)
    recent_runs = awaited(Client.recent_runs)
    workers_alive = awaited(Client.workers_alive)

    async def wait(self, run: AioRun[Output], timeout: float | None) -> AioRun[Output]:
        """As `AioRun.wait`."""
        seen = await self._coroutines.wait(run, timeout, self._client)
        return aio_run(seen, self) if isinstance(seen, Run) else run

    async def close(self) -> None:
        """As the client's own."""
        await self._coroutines.made(self._client.close, beside=True)
