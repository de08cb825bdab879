"""The floor: pgflow's own functions by plain psycopg, one thread, batches of 50 in a pipeline; then one that LISTENs.

python -m benchmarks.peers.core_functions CONNINFO JOBS SAMPLES GAP
"""

from __future__ import annotations

import sys
import threading

import psycopg

from benchmarks.floor import plain_listener, plain_worker
from benchmarks.modules import echo
from benchmarks.peers.tally import Tally
from benchmarks.queued import ENQUEUE
from pgflow_starter import job
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.flows import compile_flow

BATCH = 50

conninfo, jobs, samples, gap = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
tally = Tally(jobs)
never = threading.Event()
noop = job("noop")(echo)
with psycopg.connect(conninfo, autocommit=True) as conn:
    compile_flow(conn, noop.__pgflow_definition__())
    conn.execute(ENQUEUE, (jobs, noop.slug))
    conn.execute("vacuum analyze")
    pgmq.enable_notify(conn, noop.slug, 0)
with plain_worker(conninfo, noop.slug) as worker:
    while tasks := worker.claim(BATCH):
        for _ in tasks:
            tally.handled()
        worker.complete(tasks)
    with plain_listener(conninfo, noop.slug, tally.handled):
        for _ in range(samples):
            never.wait(gap)
            tally.asks()
            worker.start("1")
            while not tally.answered:
                never.wait(0.001)
tally.tell()
