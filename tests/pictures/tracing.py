"""A run over two processes, its first step tried twice, told to a backend and found there as one trace."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psycopg

import pgflow_starter as pgflow
from tests.pictures import traced_program
from tests.pictures.backend import Backend
from tests.pictures.one_trace import CALLED, CALLER, FLOW, fault_of, of_the_run
from tests.pictures.processes import process
from tests.pictures.traced_program import PROJECT, telling
from tests.support.waiting import eventually

WAIT = 60.0


def trace(folder: Path, conninfo: str, backend: Backend) -> str:
    """The run's trace, by its id. Raises AssertionError where the backend has anything but that one trace of it."""
    provider = telling(backend.url, CALLER)
    with pgflow.PgflowClient(conninfo, tracer_provider=provider) as client:
        with working(folder, conninfo, backend, "first"):
            eventually(lambda: client.workers_alive(FLOW), WAIT, "the first worker's start")
            with provider.get_tracer(PROJECT).start_as_current_span(CALLED):
                run = client.start_flow(FLOW, [{"pieces": 2, "cents": 1900}])
            eventually(lambda: run.steps()[0].status == "completed", WAIT, "the first step's end")
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(f"update pgmq.q_{FLOW} set vt = now()".encode())
        with working(folder, conninfo, backend, "second"):
            run.wait(WAIT).raise_for_status()
    provider.shutdown()
    with suppress(AssertionError):
        eventually(lambda: fault_of(backend.spans()) is None, WAIT)
    spans = backend.spans()
    fault = fault_of(spans)
    assert fault is None, fault
    return str(of_the_run(spans)[0]["context"]["trace_id"])


def working(folder: Path, conninfo: str, backend: Backend, name: str) -> AbstractContextManager[None]:
    """A process of that name with a worker of the flow, whose spans are all sent when it has ended."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url, "PROCESS": name}
    return process(folder, conninfo, "shop:checkout", "--notify", module=traced_program.__name__, env=env)
