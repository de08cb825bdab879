"""From a database that is back, or that ended our sessions, to work being done.

A server of its own with PostgreSQL's settings (fsync on), 100 modules, the notify strategy, everything at its default.
The starter's connections go through a proxy, which counts the attempts; what asks for work goes past it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

import pgflow_starter as pgflow
from benchmarks.figures import Figure, most_in_a_second, p99
from pgflow_starter.postgres.embedded import EmbeddedPostgres
from pgflow_starter.postgres.install import install
from tests.support.proxy import Proxy

MODULES = 100
SHORT_DOWN, LONG_DOWN = 5.0, 60.0
SHORT_RESTART, LONG_RESTART = 3.0, 45.0
SAMPLE_EVERY = 0.005
PATIENCE = 120.0

_TERMINATE = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where pid <> pg_backend_pid() and application_name = 'pgflow_starter'
"""
_never = threading.Event()


@dataclass(slots=True)
class Outages:
    """What was seen while the database was away: seconds that `status()` took, attempts in the busiest second."""

    status_seconds: list[float] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)


class Handled:
    """Jobs that tell when one of them runs."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.at = 0.0
        self.jobs = [pgflow.job(f"job_{i}")(self._handle) for i in range(MODULES)]

    def _handle(self, message: Any, ctx: pgflow.TaskContext) -> Any:
        self.at = time.monotonic()
        self.event.set()
        return message

    def after(self, began: float) -> float:
        """Wait for a job to run: seconds since `began`."""
        if not self.event.wait(PATIENCE):
            raise pgflow.PgflowError("no job was run")
        return self.at - began


def measure(repetitions: int, *, long: bool) -> Iterator[Figure]:
    """Each figure as soon as it is known; cases with long outages three times."""
    outages = Outages()
    down = LONG_DOWN if long else SHORT_DOWN
    times = min(repetitions, 3) if long else repetitions
    with _server() as server:
        values = [_down_at_start(server, down, outages) for _ in range(times)]
        yield Figure(f"down {down:g} s at start, 100 modules, notify: accepting → ready", values, 2.0, "s")
        for seconds in (SHORT_RESTART, LONG_RESTART) if long else (SHORT_RESTART,):
            count = times if seconds == LONG_RESTART else repetitions
            values = [_restarted(server, seconds, outages) for _ in range(count)]
            yield Figure(f"restarted ({seconds:g} s) while running: accepting → first job run", values, 1.0, "s")
        values = [_terminated(server) for _ in range(repetitions)]
        yield Figure("every backend terminated → next job run", values, 0.5, "s")
    yield Figure("connection attempts in the busiest second of each outage", outages.attempts, 2, "")
    yield Figure("status() meanwhile, p99", [p99(outages.status_seconds) * 1e3], 1.0, "ms")


@contextmanager
def _server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tcp=True) as server:
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute("create database template_of_bench")
        install(server.conninfo("template_of_bench"))
        yield server


def _fresh(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("drop database if exists bench with (force)")
        admin.execute("create database bench template template_of_bench strategy file_copy")
        admin.execute("checkpoint")


def _down_at_start(server: EmbeddedPostgres, seconds: float, outages: Outages) -> float:
    _fresh(server)
    server.stop()
    with Proxy(server) as proxy, _starter(proxy, Handled()) as starter:
        _sit_out(starter, proxy, seconds, outages)
        server.start()
        began = time.monotonic()
        starter.await_ready(PATIENCE)
        return time.monotonic() - began


def _restarted(server: EmbeddedPostgres, seconds: float, outages: Outages) -> float:
    _fresh(server)
    handled = Handled()
    with Proxy(server) as proxy, _starter(proxy, handled) as starter:
        starter.await_ready(PATIENCE)
        server.stop()
        _sit_out(starter, proxy, seconds, outages)
        server.start()
        began = time.monotonic()
        _enqueue(server)
        return handled.after(began)


def _terminated(server: EmbeddedPostgres) -> float:
    _fresh(server)
    handled = Handled()
    with Proxy(server) as proxy, _starter(proxy, handled) as starter:
        starter.await_ready(PATIENCE)
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute(_TERMINATE)
        began = time.monotonic()
        _enqueue(server)
        return handled.after(began)


@contextmanager
def _starter(proxy: Proxy, handled: Handled) -> Iterator[pgflow.Starter]:
    with pgflow.start(proxy.conninfo("bench"), jobs=handled.jobs, signal_strategy="notify") as starter:
        yield starter


def _sit_out(starter: pgflow.Starter, proxy: Proxy, seconds: float, outages: Outages) -> None:
    began = time.monotonic()
    while not _never.wait(SAMPLE_EVERY) and time.monotonic() - began < seconds:
        asked = time.perf_counter()
        starter.status()
        outages.status_seconds.append(time.perf_counter() - asked)
    outages.attempts.append(most_in_a_second([at for at in proxy.attempts() if at >= began]))


def _enqueue(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.conninfo("bench"), autocommit=True) as conn:
        conn.execute("select pgflow.start_flow('job_7', '1'::jsonb)")
