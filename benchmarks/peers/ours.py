"""pgflow_starter: one job module, ten tasks at a time. Each job is a pgflow run, with all that pgflow keeps of it.

python ours.py CONNINFO JOBS SAMPLES GAP FAST_LANE
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import psycopg
from tally import Tally  # type: ignore[import-not-found] # found beside the program when it runs

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.flows import compile_flow

conninfo, jobs, samples, gap = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
tally = Tally(jobs)
never = threading.Event()


@pgflow.job("noop")
def noop(message: Any, ctx: pgflow.TaskContext) -> None:
    tally.handled()


with psycopg.connect(conninfo, autocommit=True) as conn:
    compile_flow(conn, noop.__pgflow_definition__())
    conn.execute(
        "select count(*) from generate_series(1, %s) i, lateral pgflow.start_flow('noop', to_jsonb(i))", (jobs,)
    )
    conn.execute("vacuum analyze")
settings: dict[str, Any] = {"signal_strategy": "notify", "notify_throttle": 0, "fast_lane": sys.argv[5]}
with pgflow.start(conninfo, jobs=[noop], **settings) as starter:
    while not tally.done:
        never.wait(0.01)
    for _ in range(samples):
        never.wait(gap)
        tally.asks()
        starter.client.enqueue(noop, 1)
        while not tally.answered:
            never.wait(0.001)
tally.tell()
