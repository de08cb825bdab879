"""`Runtime`: everything that one starter consists of, put together; and the supervision tree, written out here.

    root               one_for_one, 500 restarts in 60 s
    ├─ timers          guards the timer thread
    ├─ database        guards the probe's thread
    ├─ listener        guards the LISTEN connection's thread (notify strategy)
    ├─ heartbeat       HeartbeatActor
    ├─ housekeeper     HousekeeperActor
    ├─ workers         supervisor, one_for_one over one WorkerActor a module
    ├─ modules         supervisor, one_for_one over one ModuleActor a module
    └─ starter         StarterActor

Nobody depends on another's incarnation: what outlives a crash is on the board's cells and the workers' cells, in the
timers' heap and the listener's queues; and who needs a supervisor asks the tree for the one there is. So each child is
restarted alone. A supervisor of N modules or workers may restart 3 + 3 N times in 5 s, for one cause may end them all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pgflow_starter.clock import SystemClock, one_wait, uniform_unit
from pgflow_starter.config import Settings
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.failure import Failures
from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.state import ChildInfo, ModuleStatus, SignalStrategy, WorkerState, phases_of
from pgflow_starter.errors import PgflowError, StarterStopped, StarterTerminated
from pgflow_starter.modules.board import Board
from pgflow_starter.modules.messages import CellChanged, DatabaseBack
from pgflow_starter.modules.module_actor import ModuleActor
from pgflow_starter.modules.phase_batches import PhaseBatches
from pgflow_starter.modules.phases import RegistrationPhases
from pgflow_starter.modules.registry import FlowRegistry
from pgflow_starter.modules.world import ModuleWorld
from pgflow_starter.postgres.connections.conninfo import Redactor
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.listening.errands import ListenerErrands
from pgflow_starter.postgres.listening.listener import Listener
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.starter.client import PgflowClient
from pgflow_starter.starter.starter_actor import STARTER_ID, StarterActor
from pgflow_starter.supervision.guardian import GuardianActor
from pgflow_starter.supervision.link import Link, start_linked
from pgflow_starter.supervision.specs import ChildSpec, ChildType, SupervisorFlags
from pgflow_starter.supervision.supervisor import DynamicSupervisorActor, SupervisorActor
from pgflow_starter.supervision.tree import Tree
from pgflow_starter.telemetry.gauges import Gauges
from pgflow_starter.telemetry.incidents import OtelIncidents
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.observer import OtelObserver
from pgflow_starter.telemetry.providers import Providers
from pgflow_starter.threads.cache import ThreadCache, run_patiently
from pgflow_starter.threads.dispatcher import Dispatcher
from pgflow_starter.threads.lane import Lane
from pgflow_starter.threads.own_thread import Threaded
from pgflow_starter.threads.timers import TimerThread
from pgflow_starter.worker.heartbeat import HeartbeatActor, Pulse
from pgflow_starter.worker.housekeeper_actor import HousekeeperActor, Rhythm
from pgflow_starter.worker.lookout import Lookout
from pgflow_starter.worker.polling import PollPolicy
from pgflow_starter.worker.workers import SUPERVISOR_ID as WORKERS_ID
from pgflow_starter.worker.workers import Workers
from pgflow_starter.worker.workers_supervisor import WorkersSupervisorActor
from pgflow_starter.worker.world import WorkerWorld

logger = logging.getLogger("pgflow_starter")

ROOT_ID = "root"

ROOT_FLAGS = SupervisorFlags(max_restarts=500, max_seconds=60.0)
"""Generous: each `stop_all()` of another library costs the StarterActor a restart, and every fourth one a supervisor's
that its children's restarts were too many for; four hundred within a minute shall take nobody down for good. What
crashes as soon as it is started gives up on a busy machine too, where a restart takes fifty times as long."""

HOUSEKEEPER_SHUTDOWN = 0.5
"""Seconds that the housekeeper gets to stop: what it may be waiting for is of no use any more."""

LEFTOVER_TIMEOUT = 0.2
"""Seconds for threads that should be gone already when a starter has stopped."""

SHOWN = 10
"""Threads that are named where they are left behind."""

FOR_EVER = 1e9
"""Seconds: as long as a stop may take at most, for a lock's longest wait is bounded."""

FROM_OUTSIDE = "it was stopped from outside"
"""What is said of a root that ended without an error of its own."""


def _stopped() -> PgflowError:
    return StarterStopped("the starter was stopped")


class Runtime:
    """One starter's parts and their life. Thread-safe; made and started once."""

    def __init__(
        self,
        conninfo: str,
        specs: Sequence[ModuleSpec],
        settings: Settings,
        stopped: Callable[[], PgflowError] = _stopped,
    ) -> None:
        """`stopped` makes what calls raise once `stop` was called."""
        self.settings = settings
        self._stopped = stopped
        self.clock = SystemClock()
        self.specs = specs
        self.tree = Tree()
        self.shutdown = Shutdown()
        self._ended = False
        self._done = threading.Lock()
        self._done.acquire()
        self._redact = Redactor(conninfo, settings.listen_conninfo)
        providers = Providers(self.clock, settings.tracer_provider, settings.meter_provider, settings.logger_provider)
        self._guard = providers.guard
        self._observer = OtelObserver(providers, self.clock, self._redact)
        self.incidents = OtelIncidents(providers, self._observer, self.clock)
        pace = Pace(self.clock)
        self.database = Database(
            conninfo,
            pool_size=settings.pool_size,
            clock=self.clock,
            patience=settings.phase_timeout,
            pace=pace,
            kept=1,  # for heartbeats
        )
        phases = phases_of(settings.signal_strategy)
        self.board = Board(specs, phases, self.clock, self.database, self._observer.ready)
        self._registry = FlowRegistry(specs)
        self._gauges = Gauges(settings.meter_provider, self.board.status, self.workers)
        self._messages = OtelMessages(providers, self.clock)
        self.client = PgflowClient.over(
            self.database, self._messages, self.clock, self._definition_of_slug, self._wake_worker, self._over
        )
        self._timers = TimerThread(self.clock)
        self._threads = ThreadCache("pgflow-thread")
        self._dispatcher = Dispatcher(self._threads, self._timers, self.clock)
        self._lane = Lane(self._threads, settings.pool_size)
        self._flow_store = PostgresFlowStore(self.database, self.clock)
        self._throttle_ms = round(settings.notify_throttle * 1000)
        self._task_store = PostgresTaskStore(self.database)
        self._workers = self._make_workers()
        self._errands = ListenerErrands(
            self.database,
            self._flow_store,
            self._throttle_ms,
            self._workers.wake,
            self._workers.troubles_of,
            self._threads,
            self._timers,
        )
        self._listener = (
            self._make_listener(conninfo, pace) if settings.signal_strategy is SignalStrategy.NOTIFY else None
        )
        self._module_world = self._make_module_world()
        self._link = Link(self._root_ended)

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the tree on the root's own thread; returns at once."""
        tell = self._observer.started(self.specs)
        with self._guard:
            self._gauges.open()
        self.database.watch(self._workers.database_back)
        self.database.watch(self._tell_modules_database_back)
        root = partial(
            SupervisorActor.start,
            ROOT_ID,
            self._root_children(),
            clock=self.clock,
            flags=ROOT_FLAGS,
            tree=self.tree,
            observer=self.incidents,
        )
        try:
            self.database.revive()
            self._dispatcher.start()
            self._root = start_linked(root, self._link, wait=False)
            run_patiently(self._threads, self._timers, partial(self._tell_started, tell))
        except BaseException:
            # No thread to be had, or a signal's exception: nobody will ever stop it.
            self.shutdown.begin(self.clock.monotonic())
            self._link.stop()
            if not self._link.running:  # else the root's end does that
                self._close_parts()
            raise

    def _tell_started(self, tell: Callable[[], None]) -> None:
        tell()
        self.board.announce_if_empty()
        if self._listener is not None:
            self._errands.watch(self._listener.queues, self.settings.notify_fallback_interval)

    def stop(self, timeout: float) -> None:
        """Begin to stop; tasks get `timeout` seconds. Returns at once. Idempotent."""
        # First: whatever fails by the rest of it is no failure.
        seconds = min(timeout, FOR_EVER) if timeout > 0 else 0.0  # so NaN, which compares to nothing, is 0
        self.shutdown.begin(self.clock.monotonic() + seconds)
        # Each time: a signal's exception may have interrupted the one before anywhere.
        self._lane.close()
        self.board.close(self._stopped)
        self.database.hurry()
        self._root.stop(block=False)
        self._workers.hurry()

    def join(self, timeout: float) -> bool:
        """Wait until all is done; False after `timeout` seconds, or on a thread that is to be waited for itself."""
        thread = self._link.thread
        assert thread is not None  # set before `start` returned
        here = threading.current_thread()
        if here is thread or self._threads.owns(here):
            return self._ended
        # A bare lock: a signal handler may come to wait on top of a wait of its own thread, and what interrupts a
        # Thread.join may leave it saying that the thread has ended.
        until = self.clock.monotonic() + timeout
        while not self._ended:
            left = until - self.clock.monotonic()
            if self._done.acquire(timeout=one_wait(left)):
                self._done.release()
            elif left <= 0:
                break
        if self._ended:
            thread.join(LEFTOVER_TIMEOUT)
            if self.shutdown.begun:
                self._gauges.close()  # also of one that gave up, once somebody knows and stops it
        return self._ended

    def children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree, flat. Never waits."""
        return self.tree.flat(ChildInfo(ROOT_ID, None, "supervisor", 0, not self._link.ended))

    def asking(self) -> object | None:
        """On the thread of who asks for an attempt: what its trace is to know of the asker."""
        return self._observer.asking()

    def workers(self) -> tuple[WorkerState, ...]:
        """The workers of this process. Never waits."""
        return tuple(cell.state() for cell in self._workers.cells())

    def definitions(self) -> tuple[FlowDefinition, ...]:
        """Those of the registered modules. Never waits for long."""
        return tuple(r.definition for r in self._registry.list())

    def _over(self) -> PgflowError:
        """What a call of the client raises that met the end."""
        try:
            self.board.check_open()
        except PgflowError as error:
            return error
        return self._stopped()

    def _root_ended(self, _: Link, reason: BaseException | None) -> None:
        """On the root's thread, when it stopped or gave up: take everything down that is not an actor."""
        try:
            self._take_down(reason)
        finally:
            self._ended = True
            self._done.release()

    def _take_down(self, reason: BaseException | None) -> None:
        if not self.shutdown.begun:
            logger.critical(
                "the starter has terminated: %s", self._redact(str(FROM_OUTSIDE if reason is None else reason))
            )
            self._gauges.terminated()
            self.incidents.died("", ROOT_ID, reason, restarting=False)
            terminated = partial(_terminated, reason, self._redact)
            self.board.close(terminated)
            self._tell_terminated(terminated())
        elif reason is not None:
            # At the interpreter's exit there may be no thread for who was about to start.
            logger.warning("the starter did not stop in order: %s", self._redact(str(reason)))
        self._close_parts()

    def _close_parts(self) -> None:
        if self.shutdown.begun:
            self._gauges.close()
        self.incidents.closed()
        self._timers.close()
        self.tree.close()
        self.client.close()
        if self._listener is not None:
            self._listener.close()
        self.database.close()
        self._dispatcher.close()
        # Last: a span's end may hang in its exporter, and then all else is closed.
        for cell in self.board.cells:
            if cell.attempt is not None:
                cell.attempt.cut_short()
        abandoned = self._threads.close(LEFTOVER_TIMEOUT)
        if abandoned:
            names = self._threads.names()
            shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            logger.warning("threads that hang and are abandoned: %d (%s)", abandoned, shown)

    def _tell_terminated(self, terminated: StarterTerminated) -> None:
        if self.settings.on_terminate is not None:
            try:
                self.settings.on_terminate(terminated)
            except BaseException:
                logger.exception("on_terminate raised")

    # --- parts ------------------------------------------------------------------------------------------------------

    def _make_listener(self, conninfo: str, pace: Pace) -> Listener:
        own = self.settings.listen_conninfo
        return Listener(
            own or conninfo,
            self.clock,
            reachability=self.database if own in (None, conninfo) else None,
            pace=pace,
            notify=self._errands.prove,
            reconnected=self._errands.enable_again,
            observer=self.incidents,
        )

    def _make_workers(self) -> Workers:
        s = self.settings
        policy = PollPolicy(
            s.signal_strategy, s.min_poll_interval, s.max_poll_interval, s.notify_fallback_interval, s.notify_throttle
        )
        world = WorkerWorld(
            self._task_store,
            self._messages,
            self.clock,
            self._timers,
            self._threads,
            self._dispatcher,
            self._lane,
            Lookout(self._task_store, self._lane, self._timers, policy.least),
            policy,
            s.batch_size,
            self.shutdown,
            self.client.may_have_ended,
            self._worker_troubled,
            self._flow_store.differences,
            Failures(s.log_errors, self._redact),
            lambda: self.database.outage is not None,
        )
        return Workers(self.tree, self._flow_store, world, s.max_concurrency, s.phase_timeout)

    def _make_module_world(self) -> ModuleWorld:
        s = self.settings
        registration = RegistrationPhases(
            self._registry,
            self._flow_store,
            self._workers,
            self._listener,
            throttle_ms=self._throttle_ms,
        )
        return ModuleWorld(
            board=self.board,
            phases=registration,
            backoff=s.backoff,
            phase_timeout=s.phase_timeout,
            clock=self.clock,
            unit=uniform_unit,
            timers=self._timers,
            threads=self._threads,
            dispatcher=self._dispatcher,
            lane=self._lane,
            batches=PhaseBatches(registration, self._lane),
            observer=self._observer,
            redact=self._redact,
            trouble_of=self._workers.trouble_of_all,
            away=lambda: self.database.outage is not None,
            shutdown=self.shutdown,
        )

    def _root_children(self) -> tuple[ChildSpec, ...]:
        rhythm = Rhythm(
            heartbeat=self.settings.heartbeat_interval,
            recovery=self.settings.recovery_interval,
            stale=self.settings.stale_threshold,
        )
        pulse = Pulse()
        threads: list[tuple[str, Threaded]] = [("timers", self._timers), ("database", self.database)]
        if self._listener is not None:
            threads.append(("listener", self._listener))
        return (
            *(ChildSpec(name, partial(GuardianActor.start, name, part)) for name, part in threads),
            # Before the workers, so that they stop after them: heartbeats go on for as long as tasks run.
            ChildSpec(
                "heartbeat",
                partial(
                    HeartbeatActor.start,
                    self._workers,
                    self._task_store,
                    self.clock,
                    self._timers,
                    rhythm.heartbeat,
                    pulse,
                    self._worker_retired,
                    self.shutdown,
                ),
                shutdown=HOUSEKEEPER_SHUTDOWN,
            ),
            ChildSpec(
                "housekeeper",
                partial(
                    HousekeeperActor.start,
                    self._workers,
                    self._task_store,
                    self.clock,
                    self._timers,
                    rhythm,
                    pulse,
                    self.shutdown,
                ),
                shutdown=HOUSEKEEPER_SHUTDOWN,
            ),
            _supervisor(
                WORKERS_ID,
                partial(WorkersSupervisorActor.start, self._workers, watcher=self._worker_died),
                self,
            ),
            _supervisor("modules", partial(DynamicSupervisorActor.start, "modules", self._module_specs), self),
            ChildSpec(STARTER_ID, partial(StarterActor.start, self.board, self.tree, self.children)),
        )

    def _module_specs(self) -> list[ChildSpec]:
        return [
            ChildSpec(f"{cell.spec.name}#{cell.spec.key}", partial(ModuleActor.start, cell, self._module_world))
            for cell in self.board.cells
        ]

    def _worker_died(self, slug: str, reason: BaseException | None) -> None:
        why = "it was stopped from outside" if reason is None else f"{type(reason).__name__}: {reason}"
        registration = self._registry.by_slug(slug)
        if registration is not None:
            cell = self.board.cells[registration.spec.key]
            if cell.machine.state.status is not ModuleStatus.FAILED_PERMANENT:  # else nobody wires it again
                self._workers.lost(slug)
            cell.worker_deaths.append(why)
            cell.tell(CellChanged())

    def _worker_retired(self, slug: str, reason: str) -> None:
        registration = self._registry.by_slug(slug)
        if registration is not None:
            cell = self.board.cells[registration.spec.key]
            cell.worker_retired_why = reason
            cell.tell(CellChanged())

    def _worker_troubled(self, slug: str) -> None:
        registration = self._registry.by_slug(slug)
        if registration is not None:
            self.board.cells[registration.spec.key].tell(CellChanged())

    def _tell_modules_database_back(self) -> None:
        for cell in self.board.cells:
            cell.tell(DatabaseBack())

    def _wake_worker(self, slug: str) -> None:
        """A run was started through our own client: its worker, if it is here, need not find out by itself."""
        if self._listener is None or self._throttle_ms:  # else its notification was sent before we came to know
            self._workers.wake(slug)

    def _definition_of_slug(self, slug: str) -> FlowDefinition | None:
        found = self._registry.by_slug(slug)
        return None if found is None else found.definition


def _supervisor(supervisor_id: str, start: Callable[..., Any], runtime: Runtime) -> ChildSpec:
    # Somebody's stop_all() ends all the children at once: restarts in proportion to their number are no reason to
    # give up.
    flags = SupervisorFlags(max_restarts=3 + 3 * len(runtime.specs), max_seconds=5.0)
    start = partial(start, clock=runtime.clock, flags=flags, tree=runtime.tree, observer=runtime.incidents)
    return ChildSpec(supervisor_id, start, type=ChildType.SUPERVISOR)


def _terminated(reason: BaseException | None, redact: Callable[[str], str]) -> StarterTerminated:
    why = f"gave up: {redact(str(reason))}" if reason is not None else f"has ended: {FROM_OUTSIDE}"
    error = StarterTerminated(f"the starter's supervisor {why}")
    error.__cause__ = reason
    return error
