"""A database with jobs that wait, and how fast they were done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

import pgflow_starter as pgflow
from benchmarks.modules import echo
from benchmarks.server import FreshDatabase
from pgflow_starter.postgres.stores.flows import compile_flow

PATIENCE = 120.0

ENQUEUE = "select count(*) from generate_series(1, %s) i, lateral pgflow.start_flow(%s, to_jsonb(i))"
"""So many runs of a job, by the core's function."""

_OPEN = "select count(*) from pgflow.runs where status = 'started'"
# By the database's clock: from the first claim to the last record.
_RATE = """
select count(*) / extract(epoch from max(completed_at) - min(started_at)) from pgflow.step_tasks
where status = 'completed'
"""
_never = threading.Event()


@contextmanager
def queued(fresh: FreshDatabase, count: int) -> Iterator[tuple[str, pgflow.Job]]:
    """A fresh database with so many no-op jobs in it, and their module."""
    job = pgflow.job("noop")(echo)
    with fresh() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            compile_flow(conn, job.__pgflow_definition__())
            conn.execute(ENQUEUE, (count, job.slug))
            conn.execute("vacuum analyze")
        yield conninfo, job


def rate(conninfo: str) -> float:
    """Jobs a second."""
    with psycopg.connect(conninfo) as conn:
        row: Any = conn.execute(_RATE).fetchone()
    return float(row[0])


def await_end(conninfo: str) -> None:
    """Until every run has ended. Raises PgflowError after two minutes."""
    deadline = time.monotonic() + PATIENCE
    with psycopg.connect(conninfo, autocommit=True) as conn:
        while conn.execute(_OPEN).fetchone() != (0,):
            if _never.wait(0.1) or time.monotonic() > deadline:
                raise pgflow.PgflowError("the runs did not end")
