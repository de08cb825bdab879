"""No-op jobs a second against concurrency: how many tasks one worker may run at a time.

The floor is one plain connection that claims and completes by so many, in one round trip each, from the first claim to
the last record by the database's clock on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator

import pgflow_starter as pgflow
from benchmarks.figures import Figure
from benchmarks.floor import plain_worker
from benchmarks.plan import Plan
from benchmarks.queued import await_end, queued, rate
from benchmarks.server import FreshDatabase


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Ours and the floor's by turns."""
    for concurrency in plan.concurrencies:
        ours, floor = [], []
        for _ in range(plan.outages):
            with queued(fresh, plan.jobs) as (conninfo, job):
                with plain_worker(conninfo, job.slug) as worker:
                    worker.drain(concurrency)
                floor.append(rate(conninfo))
            with queued(fresh, plan.jobs) as (conninfo, job):
                with pgflow.start(
                    conninfo,
                    jobs=[job],
                    signal_strategy="notify",
                    max_concurrency=concurrency,
                    batch_size=concurrency,
                ):
                    await_end(conninfo)
                ours.append(rate(conninfo))
        what = f"{plan.jobs} no-op jobs, concurrency {concurrency}"
        yield Figure(what, ours, None, "/s", series="pgflow_starter", x=concurrency)
        yield Figure(f"  the floor, by {concurrency}", floor, None, "/s", series="its statements", x=concurrency)
