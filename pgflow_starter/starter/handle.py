"""`Starter`: the handle that callers hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.modules import FlowModule
from pgflow_starter.core.state import ChildInfo, ModuleState, StarterStatus, WorkerState
from pgflow_starter.starter.per_process import RuntimeFinder
from pgflow_starter.starter.runtime import Runtime

if TYPE_CHECKING:
    from pgflow_starter.postgres.client.views import Views
    from pgflow_starter.starter.client import PgflowClient
    from pgflow_starter.starter.proxy import StarterProxy


class Starter:
    """A running starter. Safe from any thread; outlives every restart behind it. A context manager that stops it.

    After `stop` all calls but `stop` raise StarterStopped; when the root supervisor has given up, StarterTerminated.
    In a child that was forked from the process where it runs they raise ForkedError, unless it was made with
    `lazy=True`: then the first call (`stop` apart) starts it, in each process that makes one.

    The interpreter's exit stops it as `stop` does, sys.exit and an unhandled exception included. A signal that nobody
    handles does not, and a child of multiprocessing before Python 3.13 has no such exit: call `stop` there.
    """

    def __init__(self, runtimes: RuntimeFinder, names: Sequence[str]) -> None:
        self._runtimes = runtimes
        self._names = names

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Starter([{', '.join(self._names)}])"

    @property
    def client(self) -> PgflowClient:
        """Starts runs and asks for them, over this starter's connections."""
        return self._checked().parts.client

    @property
    def views(self) -> Views:
        """What the page shows of the database, over this starter's connections."""
        return self._checked().parts.views

    def status(self) -> StarterStatus:
        """All modules now, a snapshot. Never waits."""
        return self._checked().board.status()

    def module_status(self, module: FlowModule | str) -> ModuleState | None:
        """One module, given as object, name or slug; None for an unknown one. Never waits."""
        return self._checked().board.state_of(module)

    def ready(self) -> bool:
        """Whether every module is terminal: succeeded or failed for good. Never waits."""
        return self._checked().board.status().ready

    def healthy(self) -> bool:
        """Whether at least one module succeeded, or there is none. Never waits."""
        return self._checked().board.status().healthy

    def await_ready(self, timeout: float | None = 5.0) -> None:
        """Wait up to `timeout` seconds (None: for ever) until every module is terminal.

        Raises NotReadyError, a TimeoutError, telling where each open module stands; StarterStopped and
        StarterTerminated when that happens meanwhile.
        """
        self._checked().board.await_ready(timeout)

    def retry_now(self, module: FlowModule | str) -> None:
        """Ask for an attempt at once, whatever the backoff timer says; nothing for an unknown module. Never waits."""
        runtime = self._checked()
        runtime.board.retry_now(module, runtime.asking())

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree as a flat tuple, parents before children. Never waits."""
        return self._checked().children()

    def workers(self) -> tuple[WorkerState, ...]:
        """The workers of this process, in the order of their registration. Never waits."""
        return self._checked().workers()

    def definitions(self) -> tuple[FlowDefinition, ...]:
        """The definitions of the registered modules, in the order of their registration. Never waits."""
        return self._checked().definitions()

    def proxy(self) -> StarterProxy:
        """The same calls, answered by the StarterActor as pykka futures."""
        from pgflow_starter.starter.proxy import StarterProxy

        self._checked()
        return StarterProxy(self._runtimes, self._checked)

    def stop(self, timeout: float | None = None) -> None:
        """Stop: no new tasks, running ones get `timeout` seconds (default `shutdown_timeout`), the rest is given back.

        Returns when done, or about a second after the timeout. Idempotent, safe from any thread and from a signal
        handler. On a thread of the starter's own (a handler's) it only begins to stop. One that was never started
        (lazy) never will be; in a forked child it does nothing to the parent's.
        """
        self._runtimes.stop(timeout)()

    def _checked(self) -> Runtime:
        runtime = self._runtimes.get()
        runtime.board.check_open()
        return runtime
