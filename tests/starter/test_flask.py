"""The Flask application under gunicorn: forked after its import, a starter in each process, until SIGTERM."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

import psycopg

import pgflow_starter as pgflow
from tests.support.programs import ROOT, read_until, running
from tests.support.waiting import eventually

COMMAND = ("-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "flask_app:app", "--bind", "127.0.0.1:0", "--preload")
UNDER_WAY = "select distinct last_worker_id from pgflow.step_tasks where status = 'started'"


def answer(url: str, **form: Any) -> tuple[int, Any]:
    """What the application answers, to a form where there is one."""
    try:
        with urllib.request.urlopen(url, urlencode(form).encode() if form else None, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error) if "json" in error.headers["Content-Type"] else None


def test_each_process_runs_tasks_within_the_application_s_context_and_drains(database: str) -> None:
    environment = {"PGFLOW_DSN": database, "SHOP": "tea"}
    with (
        running(*COMMAND, env=environment, cwd=ROOT / "examples") as server,
        psycopg.connect(database, autocommit=True) as connection,
    ):
        found = re.search(r"http://127\.0\.0\.1:\d+", read_until(server.stderr, "Listening at"))
        assert found is not None
        reports = f"{found[0]}/reports/"
        workers = "select from pgflow.workers"
        eventually(lambda: len(connection.execute(workers).fetchall()) == 2, 30, "a worker in each process")
        eventually(lambda: answer(f"{reports}healthz")[0] == 200, 30, "a healthy starter")

        asked = [answer(reports, title=f"no. {i}", seconds=1.5) for i in range(15)]
        assert {status for status, _ in asked} == {202}
        eventually(lambda: len(connection.execute(UNDER_WAY).fetchall()) == 2, 10, "tasks in both processes")
        assert answer(f"{reports}{asked[0][1]['run']}")[0] == 200
        assert answer(f"{reports}00000000-0000-0000-0000-000000000000")[0] == 404
        assert answer(f"{reports}no-uuid")[0] == 404

        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate()
        assert (server.returncode, "Traceback" in errors) == (0, False), errors
        assert connection.execute("select from pgflow.step_tasks where status = 'started'").fetchall() == []
        assert connection.execute("select from pgflow.workers where deprecated_at is null").fetchall() == []
    with pgflow.PgflowClient(database) as client:
        done = [run.result for _, told in asked if (run := client.run(told["run"])).status == "completed"]
    assert len(done) >= 10
    assert len({result["by"] for result in done}) == 2
    assert {result["shop"] for result in done} == {"tea"}
