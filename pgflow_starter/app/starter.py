"""`Starter`: the handle that callers hold, and `StarterProxy`, the same calls as futures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.actors.starter import STARTER_ID
from pgflow_starter.app.client import PgflowClient
from pgflow_starter.app.runtime import Runtime
from pgflow_starter.app.runtimes import RuntimeFinder
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.state import ChildInfo, ModuleState, StarterStatus, WorkerState
from pgflow_starter.errors import ForkedError
from pgflow_starter.ports import Clock

RESTART_PATIENCE = 5.0
"""Seconds that a proxied call waits for the StarterActor to be restarted."""


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
        return self._checked().client

    def status(self) -> StarterStatus:
        """All modules now, a snapshot. Never waits."""
        return self._checked().board.status()

    def module_status(self, module: Any) -> ModuleState | None:
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

    def retry_now(self, module: Any) -> None:
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
        self._checked()
        return StarterProxy(self._runtimes, self._checked)

    def stop(self, timeout: float | None = None) -> None:
        """Stop: no new tasks, running ones get `timeout` seconds (default `shutdown_timeout`), the rest is given back.

        Returns when done, or about a second after the timeout. Idempotent, safe from any thread and from a signal
        handler. On a thread of the starter's own (a handler's) it only begins to stop. One that was never started
        (lazy) never will be; in a forked child it does nothing to the parent's.
        """
        self._runtimes.stop(timeout)()

    @property
    def _runtime(self) -> Runtime:
        """This process's, whatever became of it."""
        return self._runtimes.get()

    def _checked(self) -> Runtime:
        runtime = self._runtime
        runtime.board.check_open()
        return runtime


class StarterProxy:
    """A starter's calls as pykka futures: `proxy.status().get(timeout=1)`. Still works after the actor was restarted.

    A call that meets a restart is sent again, for then it was never executed. Thread-safe.
    """

    def __init__(self, runtimes: RuntimeFinder, checked: Callable[[], Runtime]) -> None:
        self._runtimes = runtimes
        self._checked = checked

    def status(self) -> pykka.Future[StarterStatus]:
        """As `Starter.status`."""
        return self._ask("status")

    def module_status(self, module: Any) -> pykka.Future[ModuleState | None]:
        """As `Starter.module_status`."""
        return self._ask("module_status", module)

    def ready(self) -> pykka.Future[bool]:
        """As `Starter.ready`."""
        return self._ask("ready")

    def healthy(self) -> pykka.Future[bool]:
        """As `Starter.healthy`."""
        return self._ask("healthy")

    def retry_now(self, module: Any) -> pykka.Future[None]:
        """As `Starter.retry_now`."""
        return self._ask("retry_now", module, self._checked().asking())

    def which_children(self) -> pykka.Future[tuple[ChildInfo, ...]]:
        """As `Starter.which_children`."""
        return self._ask("which_children")

    def await_ready(self, timeout: float | None = 5.0) -> pykka.Future[None]:
        """As `Starter.await_ready`; the wait takes place in the future's `get`, and no actor waits."""
        return _lazily(lambda _: self._checked().board.await_ready(timeout))

    def stop(self, timeout: float | None = None) -> pykka.Future[None]:
        """As `Starter.stop`; it begins at once, the wait takes place in the future's `get`."""
        await_end = self._runtimes.stop(timeout)
        return _lazily(lambda _: await_end())

    def _ask(self, method: str, *args: Any) -> pykka.Future[Any]:
        runtime = self._checked()
        tree = runtime.tree
        message = ProxyCall(attr_path=(method,), args=args, kwargs={})
        ref = tree.ref(STARTER_ID)
        sent = None if ref is None else ref.ask(message, block=False)
        pid = os.getpid()

        def answer(timeout: float | None) -> Any:
            if os.getpid() != pid:
                msg = "this was asked of the starter's parent process, which will not answer here: ask again"
                raise ForkedError(msg)
            clock = runtime.clock
            deadline = None if timeout is None else clock.monotonic() + timeout
            asked, answering = ref, sent
            while True:
                if answering is not None:
                    try:
                        return answering.get(timeout=_left(deadline, clock))
                    except pykka.ActorDeadError:
                        runtime.board.check_open()
                left = _left(deadline, clock)
                try:
                    asked = tree.await_other(STARTER_ID, asked, RESTART_PATIENCE if left is None else left)
                except pykka.ActorDeadError:
                    runtime.board.check_open()
                    raise
                answering = asked.ask(message, block=False)

        return _lazily(answer)


def _left(deadline: float | None, clock: Clock) -> float | None:
    return None if deadline is None else max(0.0, deadline - clock.monotonic())


def _lazily(answer: Callable[[float | None], Any]) -> pykka.Future[Any]:
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    future.set_get_hook(answer)
    return future
