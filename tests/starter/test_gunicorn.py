"""gunicorn's threaded workers: a starter in each, over real requests, until SIGTERM; preloaded too."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.programs import ROOT, read_until, running
from tests.support.waiting import eventually
from tests.web.client import get, stream

ENDS_WITHIN = 10.0

pytestmark = pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])


@contextmanager
def gunicorn(database: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The example under gunicorn, and its port."""
    command = ("-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "gunicorn_app:app", "--bind", "127.0.0.1:0", *options)
    with running(*command, env={"PGFLOW_DSN": database}, cwd=ROOT / "examples") as server:
        said = read_until(server.stderr, "Listening at")
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", said)
        assert found is not None
        yield server, int(found[1])


def answer(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """What the application answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.load(response)
    finally:
        connection.close()


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as conn:
        return conn.execute(query.encode()).fetchall()


def test_each_worker_has_a_starter_that_runs_tasks_and_drains_at_sigterm(
    database: str, options: tuple[str, ...]
) -> None:
    with gunicorn(database, *options) as (server, port):
        eventually(lambda: len(rows(database, "select from pgflow.workers")) == 2, 30, "a worker in each process")
        asked = [answer(port, "/reports", {"title": f"no. {i}", "seconds": 1.5}) for i in range(15)]
        assert {status for status, _ in asked} == {202}
        # More than one process takes at a time, so both have some.
        running_tasks = "select distinct last_worker_id from pgflow.step_tasks where status = 'started'"
        eventually(lambda: len(rows(database, running_tasks)) == 2, 10, "tasks in both processes")
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate()
        took = time.monotonic() - began
    assert server.returncode == 0, errors
    assert took < ENDS_WITHIN
    for word in ("Fatal Python error", "Traceback", "did not end in time"):
        assert word not in errors
    assert rows(database, "select from pgflow.step_tasks where status = 'started'") == []
    assert rows(database, "select from pgflow.workers where deprecated_at is null") == []
    with pgflow.PgflowClient(database) as client:
        reports = [client.run(told["run"]) for _, told in asked]
    done = [report.result for report in reports if report.status == "completed"]
    assert len(done) >= 10
    assert len({result["by"] for result in done}) == 2


def test_a_request_learns_what_became_of_its_run_and_where_the_starter_stands(
    database: str, options: tuple[str, ...]
) -> None:
    with gunicorn(database, *options) as (server, port):
        status, told = answer(port, "/reports", {"title": "May"})
        assert status == 202

        def finished() -> Any:
            _, run = answer(port, f"/runs/{told['run']}")
            return run if run["status"] == "completed" else None

        assert eventually(finished)["result"]["title"] == "May"
        status, shown = eventually(lambda: [a for a in [answer(port, "/status")] if a[0] == 200])[0]
        assert shown["modules"][0]["module"] == "report"
        assert answer(port, "/runs/no-uuid")[0] == 400
        assert answer(port, "/runs/00000000-0000-0000-0000-000000000000")[0] == 404
        server.send_signal(signal.SIGTERM)
        server.communicate()
    assert server.returncode == 0


PAGE_APP = """
import os, pgflow_starter as pgflow
from pgflow_starter import web

@pgflow.job("slow", timeout=60)
def slow(message, ctx):
    ctx.cancelled.wait(50)

starter = pgflow.start(os.environ["PGFLOW_DSN"], jobs=[slow], shutdown_timeout=1, lazy=True)
app = web.application(starter)
"""

PAGE_SETTINGS = """
worker_class = "gthread"
workers = 1
threads = 4
graceful_timeout = 18

def post_worker_init(worker):
    from page_app import starter
    starter.ready()

def worker_exit(server, worker):
    from page_app import starter
    starter.stop()
    server.log.info("the starter has stopped")
"""


def test_an_open_page_holds_up_no_drain(database: str, options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "page_app.py").write_text(PAGE_APP)
    (tmp_path / "settings.py").write_text(PAGE_SETTINGS)
    command = ("-m", "gunicorn", "-c", "settings.py", "page_app:app", "--bind", "127.0.0.1:0", *options)
    with running(*command, env={"PGFLOW_DSN": database}, cwd=tmp_path) as server:
        found = re.search(r"http://127\.0\.0\.1:\d+", read_until(server.stderr, "Listening at"))
        assert found is not None
        eventually(lambda: get(found[0], "/readyz").status == 200, 30, "a starter that is ready")
        assert get(found[0], "/status", host="evil.example").status == 421  # it listens on a loopback address
        with pgflow.PgflowClient(database) as client:
            client.enqueue("slow", {})
        eventually(lambda: rows(database, "select from pgflow.step_tasks where status = 'started'"), 10, "a task")
        with stream(found[0], timeout=30) as reader:
            assert reader.event()[0] == "status"
            server.send_signal(signal.SIGTERM)
            heard = list(iter(reader.event, ("", "")))
            assert heard[-1][0] == "again"
        _, errors = server.communicate()
    assert server.returncode == 0, errors
    assert "the starter has stopped" in errors
    assert rows(database, "select status from pgflow.step_tasks") == [("queued",)]
    assert rows(database, "select from pgflow.workers where deprecated_at is null") == []
