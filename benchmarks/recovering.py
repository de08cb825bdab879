"""From a database that is back, or that ended our sessions, to work being done.

A server of its own with PostgreSQL's settings (fsync on), 100 modules, the notify strategy, everything at its default.
Attempts to connect are counted apart, by a proxy: it would take its share of the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

import pgflow_starter as pgflow
from benchmarks.figures import Figure, most_in_a_second, percentile
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.proxy import Proxy

DBNAME = "bench"
MODULES = 100
SHORT_DOWN, LONG_DOWN = 5.0, 60.0
SHORT_RESTART, LONG_RESTART = 3.0, 45.0
SAMPLE_EVERY = 0.005
SETTLE = 2.0
"""Seconds after ready in which the starter's own connecting is over: attempts have a pace."""

PATIENCE = 120.0

_TERMINATE = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where pid <> pg_backend_pid() and application_name = 'pgflow_starter'
"""
_never = threading.Event()


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
    status: list[float] = []
    down = LONG_DOWN if long else SHORT_DOWN
    times = min(repetitions, 3) if long else repetitions
    with _server() as server:
        values = [_down_at_start(server, down, status) for _ in range(times)]
        yield Figure(f"down {down:g} s at start, 100 modules, notify: accepting → ready", values, 2.0, "s")
        for seconds in (SHORT_RESTART, LONG_RESTART) if long else (SHORT_RESTART,):
            count = times if seconds == LONG_RESTART else repetitions
            values = [_restarted(server, seconds, status) for _ in range(count)]
            yield Figure(f"restarted ({seconds:g} s) while running: accepting → first job run", values, 1.0, "s")
        values = [_terminated(server) for _ in range(repetitions)]
        yield Figure("every backend terminated → next job run", values, 0.5, "s")
        attempts = [_attempts(server, SHORT_RESTART) for _ in range(min(repetitions, 3))]
        yield Figure("connection attempts in an outage's busiest second", attempts, 2, "")
    yield Figure("status() meanwhile, p99", [percentile(status, 99) * 1e3], 1.0, "ms")


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


def _down_at_start(server: EmbeddedPostgres, seconds: float, status: list[float]) -> float:
    _fresh(server)
    server.stop()
    with _starter(server.conninfo(DBNAME), Handled()) as starter:
        _sit_out(starter, seconds, status)
        server.start()
        began = time.monotonic()
        starter.await_ready(PATIENCE)
        return time.monotonic() - began


def _restarted(server: EmbeddedPostgres, seconds: float, status: list[float]) -> float:
    _fresh(server)
    handled = Handled()
    with _starter(server.conninfo(DBNAME), handled) as starter:
        starter.await_ready(PATIENCE)
        server.stop()
        _sit_out(starter, seconds, status)
        server.start()
        began = time.monotonic()
        _enqueue(server)
        return handled.after(began)


def _terminated(server: EmbeddedPostgres) -> float:
    _fresh(server)
    handled = Handled()
    with _starter(server.conninfo(DBNAME), handled) as starter:
        starter.await_ready(PATIENCE)
        _never.wait(SETTLE)
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute(_TERMINATE)
        began = time.monotonic()
        _enqueue(server)
        return handled.after(began)


@contextmanager
def _starter(conninfo: str, handled: Handled) -> Iterator[pgflow.Starter]:
    with pgflow.start(conninfo, jobs=handled.jobs, signal_strategy="notify") as starter:
        yield starter


def _attempts(server: EmbeddedPostgres, seconds: float) -> float:
    """Of all that connects in the process: pool, probe and listener."""
    _fresh(server)
    with Proxy(server) as proxy, _starter(proxy.conninfo(DBNAME), Handled()) as starter:
        starter.await_ready(PATIENCE)
        began = time.monotonic()
        server.stop()
        _sit_out(starter, seconds, [])
        times = [at for at in proxy.attempts() if at >= began]
        server.start()
    return most_in_a_second(times)


def _sit_out(starter: pgflow.Starter, seconds: float, status: list[float]) -> None:
    began = time.monotonic()
    while not _never.wait(SAMPLE_EVERY) and time.monotonic() - began < seconds:
        asked = time.perf_counter()
        starter.status()
        status.append(time.perf_counter() - asked)


def _enqueue(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.conninfo(DBNAME), autocommit=True) as conn:
        conn.execute("select pgflow.start_flow('job_7', '1'::jsonb)")
