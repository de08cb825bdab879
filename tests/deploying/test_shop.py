"""The program that all of them start: it runs what it should, and ends in time when it is told to."""

from __future__ import annotations

import re
import signal

import pgflow_starter as pgflow
from tests.support.commands import call
from tests.support.deployed import FOLDER, MODULES
from tests.support.programs import read_until, running
from tests.web.client import get


def test_it_registers_runs_answers_and_drains(database: str) -> None:
    command = ("-m", "pgflow_starter", "run", *MODULES, "--notify", *("--http", ":0", "--metrics", ":0"))
    with running(*command, env={"PGFLOW_DSN": database}, cwd=FOLDER) as program:
        said = read_until(program.stderr, "ready: 2 of 2 modules succeeded")
        metrics, page = re.findall(r"http://127\.0\.0\.1:\d+", said)
        assert "pgflow_starter_ready 1.0" in get(metrics, "/metrics").text
        for probe in ("livez", "readyz", "healthz"):
            assert get(page, f"/{probe}").status == 200
        told = call("status", page)
        assert told.exit_code == 0
        assert f"{page}/status: ready, healthy" in told.stdout
        assert "send_email   running   0 of 10" in told.stdout
        with pgflow.PgflowClient(database) as client:
            order = {"customer": "ada", "lines": [{"pieces": 2, "cents": 1900}]}
            assert client.start_flow("order", order).wait(10).result == {"customer": "ada", "cents": 3800}
        program.send_signal(signal.SIGTERM)
        program.communicate()
    assert program.returncode == 0
