"""The floor of starting: what one lean registration needs, by plain psycopg, and N bare pykka actors.

Each module takes one look at what there is (the flow with its steps, its queue, its notifications) and one statement
for its worker's row. What is missing is made in one transaction in one round trip: flow and steps with the lock's time
limited, notifications under the queue's lock. What is so already is skipped. The modules are spread over a number of
threads with a connection each, and at last one more connection LISTENs to all queues in one query. Then N pykka actors
are started, which get one message each. All of it counts: connecting, statements, actors.

    python -m benchmarks.registering CONNINFO STRATEGY MODULES THREADS
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any
from uuid import uuid4

import psycopg
import pykka
from psycopg import sql

from benchmarks.child import tell

THROTTLE_MS = 250
LIMITS = 3, 5, 60
"""Attempts, base delay and timeout of each job."""

_INSTALLED = (
    "select to_regproc('pgflow.create_flow') is not null and to_regproc('pgmq.enable_notify_insert') is not null"
)
_LOOK = """
select f.opt_max_attempts, f.opt_base_delay, f.opt_timeout, array(
           select (s.step_slug, s.step_type, s.opt_max_attempts, s.opt_base_delay, s.opt_timeout,
                   s.opt_start_delay)::text
           from pgflow.steps s where s.flow_slug = f.flow_slug order by s.step_index),
       exists (select from pgmq.meta where queue_name = f.flow_slug),
       %(throttle)s::integer is null or exists (
           select from pg_trigger t, pgmq.notify_insert_throttle n
           where t.tgrelid = to_regclass('pgmq.q_' || f.flow_slug) and n.queue_name = f.flow_slug
             and t.tgname = 'trigger_notify_queue_insert_listeners' and n.throttle_interval_ms = %(throttle)s)
from pgflow.flows f where f.flow_slug = %(slug)s
"""
_LIMIT_LOCKS = "set local lock_timeout = '2s'"
_CREATE_FLOW = "select count(*) from pgflow.create_flow(%s, %s, %s, %s)"
_ADD_STEP = "select count(*) from pgflow.add_step(%s, %s, '{}', %s, %s, %s, null, 'single')"
_LOCK_QUEUE = "select pgmq.acquire_queue_lock(%s)"
_ENABLE = "select pgmq.enable_notify_insert(%s, %s)"
_WORKER = """
insert into pgflow.workers as w (worker_id, queue_name, function_name) values (%s, %s, %s)
on conflict (worker_id) do update set last_heartbeat_at = now()
"""


class Bare(pykka.ThreadingActor):
    """Takes one message."""

    def __init__(self, came: Semaphore) -> None:
        super().__init__()
        self._came = came

    def on_receive(self, message: Any) -> None:
        self._came.release()


def register_all(conninfo: str, strategy: str, slugs: list[str], threads: int) -> None:
    """All modules, on so many threads."""
    notify = strategy == "notify"

    def register(mine: list[str]) -> None:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            assert conn.execute(_INSTALLED).fetchone() == (True,)
            for slug in mine:
                _register(conn, slug, THROTTLE_MS if notify else None)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(register, slugs[i::threads]) for i in range(threads)]:
            done.result()
    if notify:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            names = [sql.SQL("listen {}").format(sql.Identifier(f"pgmq.q_{slug}.INSERT")) for slug in slugs]
            conn.execute(sql.SQL("; ").join(names))


def _register(conn: psycopg.Connection[Any], slug: str, throttle: int | None) -> None:
    found = conn.execute(_LOOK, {"slug": slug, "throttle": throttle}).fetchone()
    there = found is not None and found[:3] == LIMITS and len(found[3]) == 1 and found[4]
    enabled = found[5] if found is not None else throttle is None
    if not (there and enabled):
        with conn.pipeline(), conn.transaction():
            conn.execute(_LIMIT_LOCKS)
            if not there:
                conn.execute(_CREATE_FLOW, (slug, *LIMITS))
                conn.execute(_ADD_STEP, (slug, slug, *LIMITS))
            if not enabled:
                conn.execute(_LOCK_QUEUE, (slug,))
                conn.execute(_ENABLE, (slug, throttle))
    conn.execute(_WORKER, (uuid4(), slug, slug))


def start_actors(count: int) -> None:
    """That many, and one message each; returns when all have come."""
    came = Semaphore(0)
    for _ in range(count):
        Bare.start(came).tell("begin")
    for _ in range(count):
        came.acquire()


def main() -> None:
    """Do it and tell the seconds."""
    conninfo, strategy, count, threads = sys.argv[1:]
    slugs = [f"job_{i}" for i in range(int(count))]
    began = time.perf_counter()
    register_all(conninfo, strategy, slugs, int(threads))
    registered = time.perf_counter()
    start_actors(int(count))
    tell(seconds=time.perf_counter() - began, actors=time.perf_counter() - registered)
    pykka.ActorRegistry.stop_all()


if __name__ == "__main__":
    main()
