"""`child_spec` and `starter_of`: a starter as a child in a supervision tree of somebody else's."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Unpack, cast

import pykka
from pykka.messages import ProxyCall

from pgflow_starter.config import Settings, settings_from
from pgflow_starter.core.modules import FlowModule, ModuleSpec, module_specs
from pgflow_starter.errors import PgflowError, StarterStopped, StarterTerminated
from pgflow_starter.starter.handle import Starter
from pgflow_starter.starter.per_process import STOP_GRACE, Runtimes
from pgflow_starter.starter.runtime import Runtime
from pgflow_starter.starter.settings import StartSettings
from pgflow_starter.supervision.actor import Actor
from pgflow_starter.supervision.specs import ChildSpec, ChildType, Remembering, Restart

DEFAULT_ID = "pgflow"


def child_spec(
    conninfo: str,
    *,
    id: str = DEFAULT_ID,
    restart: Restart | Literal["permanent", "transient", "temporary"] = Restart.PERMANENT,
    shutdown: float | None = None,
    flows: Iterable[FlowModule | str] = (),
    jobs: Iterable[FlowModule | str] = (),
    **settings: Unpack[StartSettings],
) -> ChildSpec:
    """A starter as a child of a `SupervisorActor`: started and stopped in order, restarted when its root gave up.

    `shutdown` is how many seconds it gets to stop. Running tasks get a second less than that, and `shutdown_timeout`
    at most; by default that alone. With 0 nobody waits for it. Everything else is as in `start`, with which it shares
    what it raises; ValueError for a bad `id`, `restart` or `shutdown`, and for `lazy`, too.
    """
    checked = settings_from(conninfo, settings)
    if checked.lazy:
        msg = "lazy must be False: a supervised starter starts when its supervisor starts it"
        raise ValueError(msg)
    incarnations = Incarnations(conninfo, module_specs(flows, jobs), checked, shutdown)
    return ChildSpec(id, incarnations, cast("Restart", restart), shutdown, ChildType.SUPERVISOR)


def starter_of(supervisor: pykka.ActorRef[Any] | pykka.ActorProxy[Any], id: str = DEFAULT_ID) -> Starter:
    """The handle of the starter that is the child `id` of a supervisor, which is given as its ref or proxy.

    It follows that child from restart to restart.

    Between two incarnations its calls raise StarterTerminated, after the supervisor's end StarterStopped; what waits in
    one incarnation does not go on in the next. Its `stop` ends the incarnation that there is: a permanent child comes
    again, `terminate_child` ends it for good.

    Waits until the supervisor has started its children, so no child of it may call this. Raises SupervisionError for
    an unknown id, TypeError for a child that is no starter, StarterStopped when the supervisor has ended, ForkedError
    where it lives in the process from which this one was forked.
    """
    ref = supervisor.actor_ref if isinstance(supervisor, pykka.ActorProxy) else supervisor
    try:
        spec: ChildSpec = ref.ask(ProxyCall(attr_path=("get_childspec",), args=(id,), kwargs={}), block=True)
    except pykka.ActorDeadError:
        raise _with_its_supervisor() from None
    if not isinstance(spec.start, Incarnations):
        msg = f"child {id!r} is no starter: make its spec with pgflow_starter.child_spec"
        raise TypeError(msg)
    spec.start.supervisor = ref
    return Starter(spec.start, [module.name for module in spec.start.specs])


class Incarnations(Remembering):
    """The starters that one child has been, of which the last counts: what a handle that follows it holds. Thread-safe.

    Called, it starts another: it is the `start` of the child's spec.
    """

    def __init__(self, conninfo: str, specs: Sequence[ModuleSpec], settings: Settings, shutdown: float | None) -> None:
        self.specs = specs
        self.supervisor: pykka.ActorRef[Any] | None = None
        """The one of whom the handles were asked."""
        self._conninfo = conninfo
        self._settings = settings
        self._shutdown = shutdown
        self._lock = threading.Lock()
        self._last: tuple[Runtimes, pykka.ActorRef[Any]] | None = None

    def __call__(self) -> pykka.ActorRef[StarterChild]:
        return StarterChild.start(self)

    def anew(self) -> Incarnations:
        """Of another child."""
        return Incarnations(self._conninfo, self.specs, self._settings, self._shutdown)

    def begin(self, child: pykka.ActorRef[Any]) -> Runtimes:
        """Start a starter, which tells `child` when it gave up. Raises RuntimeError when there is no thread."""
        if self._last is not None:
            self._last[0].stop(0)()  # the metrics tell of one that gave up until then
        settings = replace(self._settings, on_terminate=partial(_tell_gave_up, self._settings.on_terminate, child))
        runtimes = Runtimes(partial(Runtime, self._conninfo, self.specs, settings, self._stopped), lazy=False)
        with self._lock:
            if child.is_alive():  # else it was abandoned meanwhile, and there may be a later one
                self._last = runtimes, child
        return runtimes

    @property
    def patience(self) -> float:
        """Seconds that running tasks get: the rest of the child's `shutdown` is for giving back what still runs."""
        own = self._settings.shutdown_timeout
        return own if self._shutdown is None else min(own, max(0.0, self._shutdown - STOP_GRACE))

    def get(self) -> Runtime:
        """As `Runtimes.get`, of the last. Raises StarterTerminated before the first."""
        if self._last is None:
            msg = "the starter does not run: its supervisor has not started it yet"
            raise StarterTerminated(msg)
        return self._last[0].get()

    def stop(self, timeout: float | None) -> Callable[[], object]:
        """As `Runtimes.stop`, of the last; its actor ends with it, as one that was stopped from outside."""
        if self._last is None:
            return lambda: None
        runtimes, child = self._last
        await_end = runtimes.stop(timeout)
        child.stop(block=False)
        return await_end

    def _stopped(self) -> PgflowError:
        if self.supervisor is not None and not self.supervisor.is_alive():
            return _with_its_supervisor()
        return StarterTerminated("the starter does not run: it was stopped, and its supervisor may start it again")


@dataclass(frozen=True, slots=True)
class GaveUp:
    """To the child: the root of its starter has ended, and nobody had stopped it."""

    error: StarterTerminated


class StarterChild(Actor):
    """One incarnation: has a starter, and dies when its root gives up."""

    thread_name = "pgflow-child"

    def __init__(self, incarnations: Incarnations) -> None:
        self._runtimes: Runtimes | None = None
        super().__init__()
        self._incarnations = incarnations

    def on_start(self) -> None:
        self._runtimes = self._incarnations.begin(self.actor_ref)

    def on_stop(self) -> None:
        self._stop_starter(self._incarnations.patience)()

    def on_failure(self, _: Any, error: BaseException | None, __: Any) -> None:
        if not isinstance(error, StarterTerminated):  # else there is nothing to stop
            self._stop_starter(0)()
        elif self._runtimes is not None:
            self._runtimes.part()

    def abandon(self) -> None:
        super().abandon()
        self._stop_starter(0)  # where the thread is, nobody knows

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, GaveUp):
            raise message.error
        return super().on_receive(message)

    def _stop_starter(self, timeout: float) -> Callable[[], object]:
        return (lambda: None) if self._runtimes is None else self._runtimes.stop(timeout)


def _tell_gave_up(
    theirs: Callable[[StarterTerminated], object] | None,
    child: pykka.ActorRef[Any],
    error: StarterTerminated,
) -> None:
    """On the thread of the root that ends."""
    try:
        if theirs is not None:
            theirs(error)
    finally:
        with contextlib.suppress(pykka.ActorDeadError):
            child.tell(GaveUp(error))


def _with_its_supervisor() -> StarterStopped:
    return StarterStopped("the starter was stopped with its supervisor")
