"""`StarterProxy`: a starter's calls as pykka futures."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.clock import Clock
from pgflow_starter.core.modules import FlowModule
from pgflow_starter.core.state import ChildInfo, ModuleState, StarterStatus
from pgflow_starter.errors import ForkedError
from pgflow_starter.starter.per_process import RuntimeFinder
from pgflow_starter.starter.runtime import Runtime
from pgflow_starter.starter.starter_actor import STARTER_ID

RESTART_PATIENCE = 5.0
"""Seconds that a proxied call waits for the StarterActor to be restarted."""


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

    def module_status(self, module: FlowModule | str) -> pykka.Future[ModuleState | None]:
        """As `Starter.module_status`."""
        return self._ask("module_status", module)

    def ready(self) -> pykka.Future[bool]:
        """As `Starter.ready`."""
        return self._ask("ready")

    def healthy(self) -> pykka.Future[bool]:
        """As `Starter.healthy`."""
        return self._ask("healthy")

    def retry_now(self, module: FlowModule | str) -> pykka.Future[None]:
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
