"""What the workers' statements take by themselves: plain psycopg, one connection, one thread, nothing around them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.worker_rows import REGISTER_WORKERS

Connection = psycopg.Connection[Any]

VT = 62
_CLAIM = """
with messages as materialized (select array_agg(msg_id) as ids from pgmq.read(%(queue)s, %(vt)s, %(quantity)s))
select t.run_id, t.step_slug, t.task_index, t.input::text
from messages m, pgflow.start_tasks(%(queue)s, m.ids, %(worker)s) t where m.ids is not null
"""
_COMPLETE = "select count(*) from pgflow.complete_task(%s, %s, %s, %s::jsonb)"
_START = "select run_id from pgflow.start_flow(%s, %s::jsonb, %s)"
_RUN = "select status, output::text from pgflow.runs where run_id = %s"


class PlainWorker:
    """A registered worker that is a connection and a loop."""

    def __init__(self, conninfo: str, queue: str) -> None:
        self.conn: Connection = psycopg.connect(conninfo, autocommit=True)
        self.queue = queue
        self.worker_id = uuid4()
        self.conn.execute(REGISTER_WORKERS, ([self.worker_id], [queue]))

    def claim(self, quantity: int) -> list[Any]:
        """Read messages and start their tasks, in one statement."""
        given = {"queue": self.queue, "vt": VT, "quantity": quantity, "worker": self.worker_id}
        return self.conn.execute(_CLAIM, given).fetchall()

    def complete(self, tasks: list[Any], output: Callable[[Any], str] = lambda task: str(task[3])) -> None:
        """All of them in one transaction and one round trip."""
        with self.conn.pipeline(), self.conn.transaction():
            for task in tasks:
                self.conn.execute(_COMPLETE, (task[0], task[1], task[2], output(task)))

    def drain(self, quantity: int, output: Callable[[Any], str] = lambda task: str(task[3])) -> float:
        """Claim and complete until the queue is empty: seconds."""
        began = time.perf_counter()
        while tasks := self.claim(quantity):
            self.complete(tasks, output)
        return time.perf_counter() - began

    def start(self, text: str) -> UUID:
        """Start a run."""
        run_id = uuid4()
        self.conn.execute(_START, (self.queue, text, run_id))
        return run_id

    def run(self, run_id: UUID) -> Any:
        """The run's row."""
        return self.conn.execute(_RUN, (run_id,)).fetchone()


@contextmanager
def plain_worker(conninfo: str, queue: str) -> Iterator[PlainWorker]:
    """For the duration of the block."""
    worker = PlainWorker(conninfo, queue)
    with worker.conn:
        yield worker


@contextmanager
def plain_listener(conninfo: str, queue: str, told: Callable[[], object]) -> Iterator[None]:
    """LISTEN on a thread of its own; each notification has it claim, then calls `told` for each task."""
    ended = threading.Event()
    ready = threading.Event()

    def listen() -> None:
        with plain_worker(conninfo, queue) as worker, psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute(sql.SQL("listen {}").format(sql.Identifier(pgmq.channel(queue))))
            ready.set()
            while not ended.is_set():
                for _ in conn.notifies(timeout=0.5, stop_after=1):
                    tasks = worker.claim(10)
                    for _ in tasks:
                        told()
                    worker.complete(tasks)

    thread = threading.Thread(target=listen)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()
