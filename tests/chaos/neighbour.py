"""`Neighbour`: another runtime's worker, which keeps to the protocol of pgflow core 0.8.1 and knows nothing of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

from tests.chaos.ledger import Ledger
from tests.chaos.modules import WORK

VT = 60
BATCH = 5
LOOK_EVERY = 0.02
_never = threading.Event()

_REGISTER = "insert into pgflow.workers (worker_id, queue_name, function_name) values (%s, %s, 'neighbour')"
_HEARTBEAT = "update pgflow.workers set last_heartbeat_at = now() where worker_id = %s"
_STOPPED = "update pgflow.workers set deprecated_at = now() where worker_id = %s"
_READ = "select msg_id from pgmq.read(%s, %s, %s)"
_START = "select run_id, step_slug, task_index, input from pgflow.start_tasks(%s, %s::bigint[], %s)"
_COMPLETE = "select count(*) from pgflow.complete_task(%s, %s, %s, %s)"


class Neighbour:
    """A worker for each queue. What it has started it has completed when `work` returns."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], ledger: Ledger) -> None:
        self._connection = connection
        self._ledger = ledger

    def work(self, queues: Sequence[str], seconds: float) -> None:
        """Read, start, complete; a heartbeat before each batch."""
        until = time.monotonic() + seconds
        workers = {queue: uuid4() for queue in queues}
        for queue, worker in workers.items():
            self._connection.execute(_REGISTER, (worker, queue))
        while time.monotonic() < until:
            if not sum(self._batch(queue, worker) for queue, worker in workers.items()):
                _never.wait(LOOK_EVERY)
        for worker in workers.values():
            self._connection.execute(_STOPPED, (worker,))

    def _batch(self, queue: str, worker: UUID) -> int:
        self._connection.execute(_HEARTBEAT, (worker,))
        messages = [row[0] for row in self._connection.execute(_READ, (queue, VT, BATCH))]
        if not messages:
            return 0
        tasks = self._connection.execute(_START, (queue, messages, worker)).fetchall()
        for run_id, step, index, given in tasks:
            self._ledger.handled((run_id, step, index), by="neighbour")
            self._complete(run_id, step, index, WORK[step](_input(given)))
        self._ledger.count("the neighbour's tasks", len(tasks))
        return len(tasks)

    def _complete(self, run_id: UUID, step: str, index: int, output: Any) -> None:
        while True:
            try:
                self._connection.execute(_COMPLETE, (run_id, step, index, Jsonb(output)))
            except psycopg.errors.DeadlockDetected:
                continue  # it is the same task's still
            return


def _input(given: Any) -> Any:
    """A root step finds the run's input under `run`, a dependent one its dependencies' outputs too; a map's is bare."""
    if not isinstance(given, dict):
        return given
    return given["run"] if set(given) == {"run"} else given
