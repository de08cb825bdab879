"""`Starter`: the handle that callers hold, and `StarterProxy`, the same calls as futures."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.actors.starter import STARTER_ID
from pgflow_starter.app.runtime import Runtime
from pgflow_starter.core.state import ChildInfo, ModuleState, StarterStatus
from pgflow_starter.errors import ForkedError
from pgflow_starter.postgres.client import PgflowClient

STOP_GRACE = 1.0
"""Seconds beyond its timeout that `stop` may take, to give back what still ran."""

RESTART_PATIENCE = 5.0
"""Seconds that a proxied call waits for the StarterActor to be restarted."""


class Starter:
    """A running starter. Safe from any thread; outlives every restart behind it. A context manager that stops it.

    After `stop` all calls but `stop` raise StarterStopped; when the root supervisor has given up, StarterTerminated.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._pid = os.getpid()
        # A bound method of the handle's own would keep the handle, and one that was dropped may still stop.
        self._at_exit = partial(_stop_at_exit, runtime, self._pid)
        atexit.register(self._at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        names = ", ".join(spec.name for spec in self._runtime.specs)
        return f"Starter([{names}])"

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
        self._checked().board.retry_now(module)

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree as a flat tuple, parents before children. Never waits."""
        return self._checked().children()

    def proxy(self) -> StarterProxy:
        """The same calls, answered by the StarterActor as pykka futures."""
        return StarterProxy(self, self._checked(), self._checked)

    def stop(self, timeout: float | None = None) -> None:
        """Stop: no new tasks, running ones get `timeout` seconds (default `shutdown_timeout`), the rest is given back.

        Returns when done, or about a second after the timeout. Idempotent, safe from any thread and from a signal
        handler. On a thread of the starter's own (a handler's) it only begins to stop.
        """
        if os.getpid() != self._pid:
            return
        atexit.unregister(self._at_exit)
        limit = self._runtime.settings.shutdown_timeout if timeout is None else timeout
        self._runtime.stop(limit)
        self._runtime.join(limit + STOP_GRACE)

    def _checked(self) -> Runtime:
        if os.getpid() != self._pid:
            msg = (
                f"this starter belongs to process {self._pid}: threads do not survive a fork, call start() in the child"
            )
            raise ForkedError(msg)
        self._runtime.board.check_open()
        return self._runtime


class StarterProxy:
    """A starter's calls as pykka futures: `proxy.status().get(timeout=1)`. Still works after the actor was restarted.

    A call that meets a restart is sent again, for then it was never executed. Thread-safe.
    """

    def __init__(self, starter: Starter, runtime: Runtime, check: Callable[[], object]) -> None:
        self._starter = starter
        self._runtime = runtime
        self._check = check

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
        return self._ask("retry_now", module)

    def which_children(self) -> pykka.Future[tuple[ChildInfo, ...]]:
        """As `Starter.which_children`."""
        return self._ask("which_children")

    def await_ready(self, timeout: float | None = 5.0) -> pykka.Future[None]:
        """As `Starter.await_ready`; the wait takes place in the future's `get`, and no actor waits."""
        return _lazily(lambda _: self._starter.await_ready(timeout))

    def stop(self, timeout: float | None = None) -> pykka.Future[None]:
        """As `Starter.stop`; it begins at once, the wait takes place in the future's `get`."""
        self._runtime.stop(self._runtime.settings.shutdown_timeout if timeout is None else timeout)
        return _lazily(lambda _: self._starter.stop(timeout))

    def _ask(self, method: str, *args: Any) -> pykka.Future[Any]:
        self._check()
        tree = self._runtime.tree
        message = ProxyCall(attr_path=(method,), args=args, kwargs={})
        ref = tree.ref(STARTER_ID)
        sent = None if ref is None else ref.ask(message, block=False)

        def answer(timeout: float | None) -> Any:
            if sent is not None:
                try:
                    return sent.get(timeout=timeout)
                except pykka.ActorDeadError:
                    self._check()
            patience = RESTART_PATIENCE if timeout is None else timeout
            again = tree.await_other(STARTER_ID, ref, patience)
            return again.ask(message, timeout=timeout)

        return _lazily(answer)


def _lazily(answer: Callable[[float | None], Any]) -> pykka.Future[Any]:
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    future.set_get_hook(answer)
    return future


def _stop_at_exit(runtime: Runtime, pid: int) -> None:
    """At interpreter exit: what a starter that nobody stopped would have wanted. Not in a forked child."""
    if os.getpid() == pid:
        limit = runtime.settings.shutdown_timeout
        runtime.stop(limit)
        runtime.join(limit + STOP_GRACE)
