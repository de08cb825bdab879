"""`Parts`: everything that one starter consists of, put together. Which of it is supervised: see `tree`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from pgflow_starter.clock import SystemClock, uniform_unit
from pgflow_starter.config import FastLaneUse, LogErrors, Settings
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.failure import Failures
from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.phases import SignalStrategy, phases_of
from pgflow_starter.core.state import FastLaneState, ModuleStatus, StarterStatus, WorkerState
from pgflow_starter.errors import PgflowError
from pgflow_starter.modules.board import Board
from pgflow_starter.modules.cell import ModuleCell
from pgflow_starter.modules.messages import CellChanged, DatabaseBack
from pgflow_starter.modules.phase_batches import PhaseBatches
from pgflow_starter.modules.phases import RegistrationPhases
from pgflow_starter.modules.registry import FlowRegistry
from pgflow_starter.modules.world import ModuleWorld
from pgflow_starter.postgres.connections.conninfo import Redactor
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.run_ends import PostgresRunEnds
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.supervision.tree import Tree
from pgflow_starter.telemetry.gauges import Gauges
from pgflow_starter.telemetry.incidents import OtelIncidents
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.observer import OtelObserver
from pgflow_starter.telemetry.providers import Providers
from pgflow_starter.telemetry.tally import OtelTally
from pgflow_starter.threads.cache import ThreadCache, run_patiently
from pgflow_starter.threads.dispatcher import Dispatcher
from pgflow_starter.threads.event_loop import EventLoop
from pgflow_starter.threads.lane import Lane
from pgflow_starter.threads.timers import TimerThread
from pgflow_starter.worker.ended_runs import EndedRuns
from pgflow_starter.worker.lookout import Lookout
from pgflow_starter.worker.poll_intervals import PollPolicy
from pgflow_starter.worker.tally import Tally
from pgflow_starter.worker.workers import Workers
from pgflow_starter.worker.world import WorkerWorld

if TYPE_CHECKING:  # a fifth of all: loaded when they are first asked for, under notify, with schedules
    from pgflow_starter.core.readings import PoolUse, QueueDepth
    from pgflow_starter.core.retention import Retention
    from pgflow_starter.ports import Pruning
    from pgflow_starter.postgres.client.views import Views
    from pgflow_starter.postgres.listening.listener import Listener
    from pgflow_starter.scheduling.board import ScheduleBoard
    from pgflow_starter.starter.client import PgflowClient
    from pgflow_starter.worker.queue_watch import QueueWatch


class Parts:
    """What a starter is made of, each part made once and told of those that it needs. Has no life of its own."""

    def __init__(
        self,
        conninfo: str,
        specs: Sequence[ModuleSpec],
        settings: Settings,
        stopped: Callable[[], PgflowError],
    ) -> None:
        """`stopped` makes what a call of the client raises that meets the end."""
        self.settings = settings
        self.specs = specs
        self.stopped = stopped
        self.clock = SystemClock()
        self.tree = Tree()
        self.shutdown = Shutdown()
        self.redact = Redactor(conninfo, settings.listen_conninfo)
        self.providers = providers = Providers(
            self.clock, settings.tracer_provider, settings.meter_provider, settings.logger_provider
        )
        self.guard = providers.guard
        self._messages = OtelMessages(providers, self.clock)
        self.observer = OtelObserver(providers, self.clock, self.redact)
        self.incidents = OtelIncidents(providers, self.observer, self.clock)
        pace = Pace(self.clock)
        self.database = Database(
            conninfo,
            pool_size=settings.pool_size,
            clock=self.clock,
            patience=settings.phase_timeout,
            pace=pace,
            reserved_for_urgent=1,  # for heartbeats
        )
        self._task_store = PostgresTaskStore(
            self.database, fast_lane=settings.fast_lane is FastLaneUse.AUTO, carried=self._messages.carried
        )
        phases = phases_of(settings.signal_strategy)
        self.schedules = self._make_schedules()
        self.board = Board(
            specs,
            phases,
            self.clock,
            self.database,
            self.observer.ready,
            self._fast_lane_state,
            tuple if self.schedules is None else self.schedules.states,
        )
        self.registry = FlowRegistry(specs)
        self.gauges = Gauges(settings.meter_provider, self)
        self._client: PgflowClient | None = None
        self._views: Views | None = None
        self._queue_watch: QueueWatch | None = None
        self._making = threading.RLock()  # a signal handler may ask on top of the one that makes one
        self.timers = TimerThread(self.clock)
        self.threads = ThreadCache("pgflow-thread")
        self.event_loop = EventLoop(self.clock, self.timers, self.threads)
        self.dispatcher = Dispatcher(self.threads, self.timers, self.clock)
        self.lane = Lane(self.threads, settings.pool_size)
        self._flow_store = PostgresFlowStore(self.database, self.clock)
        self.tally = Tally(PostgresRunEnds(self.database), OtelTally(providers), self.timers, self.threads)
        self._throttle_ms = round(settings.notify_throttle * 1000)
        self.workers = Workers(
            self.tree, self._flow_store, self._make_worker_world(), settings.max_concurrency, settings.phase_timeout
        )
        self.pruning = None if settings.retention is None else partial(self._pruning, settings.retention)
        """Begins to delete what is older than it is kept."""
        self.watch_listener: Callable[[], object] = lambda: None
        """Begin to look for queues that do not notify any more."""
        notified = settings.signal_strategy is SignalStrategy.NOTIFY
        self.listener = self._make_listener(conninfo, pace) if notified else None
        self.module_world = self._make_module_world()

    @property
    def client(self) -> PgflowClient:
        """Starts runs and reads them, over the starter's connections. Made when it is first asked for."""
        if self._client is None:
            from pgflow_starter.starter.client import PgflowClient

            with self._making:
                self._client = self._client or PgflowClient.on_database(
                    self.database,
                    self._messages,
                    self.clock,
                    self._definition_of_slug,
                    self._wake_worker,
                    self._error_at_end,
                    fast_lane=self._task_store.fast_lane,
                    runs_ended=self.workers.runs_ended,
                )
        return self._client

    @property
    def views(self) -> Views:
        """What the page shows of the database. Made when it is first asked for."""
        if self._views is None:
            from pgflow_starter.postgres.client.calls import Calls
            from pgflow_starter.postgres.client.told_errors import ToldErrors
            from pgflow_starter.postgres.client.views import Views

            told = ToldErrors(self.settings.log_errors is LogErrors.FULL, self.redact)
            with self._making:
                self._views = self._views or Views(Calls(self.database, self._error_at_end), told)
        return self._views

    def close_client(self) -> None:
        """End the waits of its callers, if there ever was a client; and of those who look, if anybody did."""
        for each in (self._client, self._views):
            if each is not None:
                each.close()

    # --- `ports.GaugeSource` ----------------------------------------------------------------------------------------

    def status(self) -> StarterStatus:
        """Of all modules. Never waits."""
        return self.board.status()

    def worker_states(self) -> tuple[WorkerState, ...]:
        """The workers of this process. Never waits."""
        return tuple(cell.state() for cell in self.workers.cells())

    def pool_use(self) -> PoolUse:
        """The connections, the listener's apart. Never waits."""
        from pgflow_starter.core.readings import PoolUse

        return PoolUse(self.settings.pool_size, *self.database.counts())

    def database_name(self) -> str:
        """As it is connected to. Never waits."""
        return self.database.name

    def queue_depths(self) -> Sequence[QueueDepth]:
        """What was last read of the queues; has them read while somebody asks. Never waits."""
        if self._queue_watch is None:
            from pgflow_starter.postgres.stores.queue_depths import PostgresQueueDepths
            from pgflow_starter.worker.queue_watch import QueueWatch

            with self._making:
                self._queue_watch = self._queue_watch or QueueWatch(
                    PostgresQueueDepths(self.database),
                    self.workers.queues,
                    self.clock,
                    self.timers,
                    self.threads,
                    self._database_away,
                )
        return self._queue_watch.depths()

    # --- what one part is told of another ---------------------------------------------------------------------------

    def worker_died(self, slug: str, reason: BaseException | None) -> None:
        """To the worker's module: it is wired again."""
        why = "it was stopped from outside" if reason is None else f"{type(reason).__name__}: {reason}"
        cell = self._cell_of(slug)
        if cell is not None:
            if cell.machine.state.status is not ModuleStatus.FAILED_PERMANENT:  # else nobody wires it again
                self.workers.lost(slug)
            cell.worker_deaths.append(why)
            cell.tell(CellChanged())

    def worker_retired(self, slug: str, reason: str) -> None:
        """To the worker's module: it fails for good."""
        cell = self._cell_of(slug)
        if cell is not None:
            cell.worker_retired_why = reason
            cell.tell(CellChanged())

    def database_back(self) -> None:
        """To all modules, those that wait for the database go on; and to the scheduler."""
        for cell in self.board.cells:
            cell.tell(DatabaseBack())
        if self.schedules is not None:
            self.schedules.database_back()

    def _worker_troubled(self, slug: str) -> None:
        cell = self._cell_of(slug)
        if cell is not None:
            cell.tell(CellChanged())

    def _wake_worker(self, slug: str) -> None:
        """A run was started through our own client: its worker, if it is here, need not find out by itself."""
        if self.listener is None or self._throttle_ms:  # else its notification was sent before we came to know
            self.workers.wake(slug)

    def _may_have_ended(self, run_ids: Iterable[UUID]) -> None:
        if self._client is not None:  # else nobody waits for a run
            self._client.may_have_ended(run_ids)

    def _error_at_end(self) -> PgflowError:
        """What a call of the client raises that met the end."""
        try:
            self.board.check_open()
        except PgflowError as error:
            return error
        return self.stopped()

    def _definition_of_slug(self, slug: str) -> FlowDefinition | None:
        found = self.registry.by_slug(slug)
        return None if found is None else found.definition

    def _cell_of(self, slug: str) -> ModuleCell | None:
        found = self.registry.by_slug(slug)
        return None if found is None else self.board.cells[found.spec.key]

    def _fast_lane_state(self) -> FastLaneState | None:
        return self._task_store.fast_lane.state

    def _database_away(self) -> bool:
        return self.database.outage is not None

    # --- the larger parts -------------------------------------------------------------------------------------------

    def _make_schedules(self) -> ScheduleBoard | None:
        if not self.settings.schedules:
            return None
        from pgflow_starter.scheduling.board import ScheduleBoard

        return ScheduleBoard(self.settings.schedules, self.clock.now())

    def _make_listener(self, conninfo: str, pace: Pace) -> Listener:
        from pgflow_starter.postgres.listening.errands import ListenerErrands
        from pgflow_starter.postgres.listening.listener import Listener

        errands = ListenerErrands(
            self.database,
            self._flow_store,
            self._throttle_ms,
            self.workers.wake,
            self.workers.troubles_of,
            self.threads,
            self.timers,
        )
        own = self.settings.listen_conninfo
        listener = Listener(
            own or conninfo,
            self.clock,
            reachability=self.database if own in (None, conninfo) else None,
            pace=pace,
            notify=errands.prove,
            reconnected=errands.enable_again,
            observer=self.incidents,
        )
        self.watch_listener = partial(errands.watch, listener.queues, self.settings.notify_fallback_interval)
        return listener

    def _pruning(self, retention: Retention) -> Pruning:
        from pgflow_starter.postgres.stores.forgetting import pruning

        return pruning(self.database, retention)

    def _make_worker_world(self) -> WorkerWorld:
        s, store = self.settings, self._task_store
        policy = PollPolicy(
            s.signal_strategy, s.min_poll_interval, s.max_poll_interval, s.notify_fallback_interval, s.notify_throttle
        )
        return WorkerWorld(
            store,
            self._messages,
            self.clock,
            self.timers,
            self.threads,
            self.event_loop,
            self.dispatcher,
            self.lane,
            Lookout(store, self.lane, self.timers, policy.least),
            policy,
            s.batch_size,
            self.shutdown,
            self._may_have_ended,
            EndedRuns(self._messages.ended, partial(run_patiently, self.threads, self.timers)).add,
            self._worker_troubled,
            self._flow_store.differences,
            Failures(s.log_errors is LogErrors.FULL, self.redact),
            self._database_away,
            self.tally,
            s.middleware,
        )

    def _make_module_world(self) -> ModuleWorld:
        s = self.settings
        registration = RegistrationPhases(
            self.registry,
            self._flow_store,
            self.workers,
            self.listener,
            throttle_ms=self._throttle_ms,
        )
        return ModuleWorld(
            board=self.board,
            phases=registration,
            backoff=s.backoff,
            phase_timeout=s.phase_timeout,
            clock=self.clock,
            draw_unit=uniform_unit,
            timers=self.timers,
            threads=self.threads,
            dispatcher=self.dispatcher,
            lane=self.lane,
            batches=PhaseBatches(registration, self.lane),
            observer=self.observer,
            redact=self.redact,
            trouble_of=self.workers.trouble_of_all,
            away=self._database_away,
            shutdown=self.shutdown,
        )
