"""What a probe takes with the database down and 100 modules retrying; alone, and beside threads that never wait.

Asked by another process over one connection. A WSGI application that answers a constant, on the same server, is asked
in turn with each probe: the machine's other business falls on both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import pgflow_starter as pgflow
from benchmarks.figures import Figure, percentile
from pgflow_starter.clock import SystemClock
from pgflow_starter.web import Server, parse_address, serve
from pgflow_starter.web.address import bind
from pgflow_starter.web.server import serve_application

MODULES = 100
PROBES = ("/livez", "/readyz", "/healthz")
P99_TARGET, RATIO_TARGET = 5.0, 1.3
BUSY_THREADS = 4
ALONE, BESIDE = 500, 60
"""Requests of each measurement."""

_ASK = """
import http.client, json, sys, time
path, port, constant_port, count, pause = sys.argv[1:]
connections = [http.client.HTTPConnection("127.0.0.1", int(p)) for p in (port, constant_port)]
took = [[], []]
for _ in range(int(count)):
    for connection, times in zip(connections, took):
        began = time.perf_counter()
        connection.request("GET", path)
        connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(float(pause))
print(json.dumps(took))
"""


def measure(repetitions: int) -> Iterator[Figure]:
    """The table's rows: milliseconds, and times what the constant takes."""
    with _served() as servers:
        for path in PROBES:
            pairs = [_asked(servers, path, ALONE, 0.002) for _ in range(repetitions)]
            p99s, constants = ([percentile(times, 99) for times in kind] for kind in zip(*pairs, strict=True))
            yield Figure(f"{path}, database down, {MODULES} modules retrying, p99", p99s, P99_TARGET, "ms")
            yield Figure("  a constant beside it, p99", constants, None, "ms")
        with _busy_threads():
            for path in PROBES:
                pairs = [_asked(servers, path, BESIDE, 0.0) for _ in range(repetitions)]
                beside = f"{path} beside {BUSY_THREADS} busy threads"
                yield Figure(f"{beside}, median", [median(probe) for probe, _ in pairs], None, "ms")
                ratios = [median(probe) / median(constant) for probe, constant in pairs]
                yield Figure(f"{beside}, times a constant's", ratios, RATIO_TARGET, "")


@contextmanager
def _served() -> Iterator[tuple[Server, Server]]:
    """A starter's server, and one of a constant."""
    jobs = [_job(i) for i in range(MODULES)]
    clock, look = SystemClock(), threading.Event()
    with (
        pgflow.start("host=127.0.0.1 port=1", jobs=jobs) as starter,
        serve(starter, ":0") as server,
        serve_application(_Constant(), bind(parse_address(":0"))) as constant,
    ):
        deadline = clock.monotonic() + 10
        while any(m.attempts < 2 for m in starter.status().modules) and clock.monotonic() < deadline:
            look.wait(0.1)
        yield server, constant


class _Constant:
    """Answers the same to everybody."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
        return [b"ok\n"]

    def close(self) -> None:
        pass


def _job(number: int) -> pgflow.Job:
    @pgflow.job(f"job_{number}")
    def job(message: Any, ctx: pgflow.TaskContext) -> Any:
        return message

    return job


def _asked(servers: tuple[Server, Server], path: str, count: int, pause: float) -> tuple[list[float], list[float]]:
    """Milliseconds of each request, and of those for the constant."""
    ports = [server.url.rpartition(":")[2] for server in servers]
    command = [sys.executable, "-c", _ASK, path, *ports, str(count), str(pause)]
    took = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return took[0], took[1]


@contextmanager
def _busy_threads() -> Iterator[None]:
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            sum(range(500))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(BUSY_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()
