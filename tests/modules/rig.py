"""A module actor under a real supervisor, with scripted phases, manual timers and a clock moved by hand."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import pykka
from pykka.messages import ProxyCall

from pgflow_starter import Backoff, DatabaseError, ModuleActor, ModuleState
from pgflow_starter.core.modules import ModuleSpec, module_specs
from pgflow_starter.core.phases import Phase, phases_of
from pgflow_starter.core.state import Identity, ModuleType
from pgflow_starter.core.trouble import Trouble
from pgflow_starter.modules.board import Board
from pgflow_starter.modules.cell import ModuleCell
from pgflow_starter.modules.phase_batches import PhaseBatches
from pgflow_starter.modules.phase_plan import InLane, Listen, OnOwnThread, Plan, Together
from pgflow_starter.modules.world import ModuleWorld
from pgflow_starter.ports import CancelScope
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.supervision import ChildSpec, SupervisorActor, SupervisorFlags
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.dispatcher import Dispatcher
from pgflow_starter.threads.lane import Lane
from tests.support.waiting import eventually

WAIT = 10.0
PHASE_TIMEOUT = 30.0
AWAY = DatabaseError("server closed the connection", error_type="OperationalError", connection_lost=True)


class Hang:
    """What a phase does when it hangs: it says that it began, and returns or raises when it is let go."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.cancelled = threading.Event()

    def run(self, scope: CancelScope) -> None:
        with scope.interruptible(self.cancelled.set):
            self.begun.set()
            self.let_go.wait(6 * WAIT)
        if self.error is not None:
            raise self.error


def nothing_at_once(
    phase: Phase, call: Callable[[CancelScope], Identity | None], listen: Callable[..., object]
) -> Plan:
    """The plan of a phase for which something has to be waited for."""
    match phase:
        case Phase.REGISTRY:
            return OnOwnThread(call)
        case Phase.WORKER:
            return Together(call)
        case Phase.NOTIFY_DB:
            return InLane(call)
        case Phase.NOTIFY_REGISTER:
            return Listen(listen)


class ScriptedPhases:
    """`phase_plan.Phases`: each call takes the next line of its phase's script; succeeds when there is none."""

    def __init__(self) -> None:
        self.script: defaultdict[tuple[str, Phase], deque[BaseException | Hang | None]] = defaultdict(deque)
        self.ran: list[tuple[str, Phase]] = []
        self.hangs: list[Hang] = []

    def on(self, phase: str, *lines: BaseException | Hang | None, module: str = "shop") -> None:
        self.script[module, Phase(phase)].extend(lines)
        self.hangs += [line for line in lines if isinstance(line, Hang)]

    def run(self, spec: ModuleSpec, phase: Phase, scope: CancelScope) -> Identity | None:
        self.ran.append((spec.name, phase))
        script = self.script[spec.name, phase]
        line = script.popleft() if script else None
        if isinstance(line, Hang):
            line.run(scope)
        elif line is not None:
            raise line
        return Identity("orders", ModuleType.FLOW) if phase is Phase.REGISTRY else None

    def plan(self, spec: ModuleSpec, phase: Phase) -> Plan:
        return nothing_at_once(phase, partial(self.run, spec, phase), partial(self.listen, spec))

    def run_together(self, specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        return [False for _ in specs]

    def listen(self, spec: ModuleSpec, done: Callable[[BaseException | None], object]) -> None:
        self.ran.append((spec.name, Phase.NOTIFY_REGISTER))
        done(None)


class Probe:
    """`ports.Observer` and `AttemptObserver`: what ended, in a queue; `fail_once` makes the next call raise."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.endings: SimpleQueue[tuple[ModuleState, float | None]] = SimpleQueue()
        self.fail_once: BaseException | None = None

    def started(self, modules: Sequence[ModuleSpec]) -> Callable[[], None]:
        return lambda: None

    def ready(self, states: Sequence[ModuleState], seconds: float) -> None: ...

    def asking(self) -> None: ...

    def attempt(self, state: ModuleState, previous: Any, asked: object | None) -> Probe:
        self.began.append(state.attempts)
        error, self.fail_once = self.fail_once, None
        if error is not None:
            raise error
        return self

    def phase(self, phase: Phase) -> None: ...

    def ended(self, state: ModuleState, delay: float | None) -> None:
        self.endings.put((state, delay))

    def cut_short(self) -> None: ...


class NoOutage:
    outage = None

    def watch(self, back: Callable[[], object]) -> None: ...


class Rig:
    """Module actors under a supervisor, and what the test holds them by."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.phases, self.probe = ScriptedPhases(), Probe()
        self.threads = ThreadCache("pgflow-test")
        # Timers of its own: it looks for calls that hang, which no test here is about.
        self.dispatcher = Dispatcher(self.threads, ManualTimers(), self.timers.clock)
        self.dispatcher.start()
        self.unit: Callable[[], float] = lambda: 0.5
        self.trouble: Trouble | None = None
        self.shutdown = Shutdown()
        self.away = False
        self._supervisor: pykka.ActorRef[Any] | None = None

    def start(self, *modules: str, strategy: str = "polling", width: int = 10) -> None:
        clock = self.timers.clock
        specs = module_specs(modules or ("shop",), ())
        self.board = Board(specs, phases_of(strategy), clock, NoOutage(), self.probe.ready)
        lane = Lane(self.threads, width)
        world = ModuleWorld(
            board=self.board,
            phases=self.phases,
            backoff=Backoff(base=1, maximum=30, jitter=0),
            phase_timeout=PHASE_TIMEOUT,
            clock=clock,
            draw_unit=self.unit,
            timers=self.timers,
            threads=self.threads,
            dispatcher=self.dispatcher,
            lane=lane,
            batches=PhaseBatches(self.phases, lane),
            observer=self.probe,
            trouble_of=lambda slug, lasting: self.trouble,
            away=lambda: self.away,
            shutdown=self.shutdown,
            redact=lambda text: text.replace("secret", "***"),
        )
        self._supervisor = SupervisorActor.start(
            "modules",
            [ChildSpec(cell.spec.name, partial(ModuleActor.start, cell, world)) for cell in self.board.cells],
            clock=clock,
            flags=SupervisorFlags(max_restarts=5),
        )

    def stop(self) -> None:
        for line in self.phases.hangs:
            line.let_go.set()
        if self._supervisor is not None:
            self._supervisor.stop()
        self.dispatcher.close()
        assert self.threads.close(WAIT) == 0

    @property
    def cell(self) -> ModuleCell:
        return self.board.cells[0]

    @property
    def state(self) -> ModuleState:
        state = self.board.state_of("shop")
        assert state is not None
        return state

    def reason(self) -> str:
        assert self.state.last_error is not None
        return self.state.last_error.reason

    def settle(self) -> None:
        """Until the module's actor has carried out all that it was told so far."""
        ref = self.cell.ref
        assert ref is not None
        ref.ask(ProxyCall(attr_path=("name",), args=(), kwargs={}), timeout=WAIT)

    def ended(self) -> float | None:
        """Wait for the end of an attempt; the delay until the next."""
        _, delay = self.probe.endings.get(timeout=WAIT)
        self.settle()
        return delay

    def advance(self, seconds: float) -> None:
        self.timers.advance(seconds)
        self.settle()

    def crash(self, kill: Callable[[pykka.ActorRef[Any]], object]) -> None:
        """End the actor in some way and wait for its successor."""
        dead = self.cell.ref
        assert dead is not None
        kill(dead)
        eventually(lambda: self.cell.ref is not dead, what="the restart")
        self.settle()

    @contextmanager
    def without_actor(self) -> Iterator[None]:
        """While inside, the module's actor is gone and what it is told is lost."""
        assert self._supervisor is not None
        supervisor = self._supervisor.proxy()
        supervisor.terminate_child("shop").get(timeout=WAIT)
        yield
        supervisor.restart_child("shop").get(timeout=WAIT)
        self.settle()


def hang(
    rig: Rig,
    phase: str,
    *,
    error: BaseException | None = None,
    module: str = "shop",
) -> Hang:
    """Script a phase that hangs once, let go by the test or at its end."""
    line = Hang(error)
    rig.phases.on(phase, line, module=module)
    return line
