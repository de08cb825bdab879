"""`pgflow-starter run --http`."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

import pgflow_starter as pgflow
from tests.support.programs import finished, read_until, running
from tests.support.waiting import eventually
from tests.web.client import get, post, stream

PROGRAM = ("-m", "pgflow_starter", "run")
SHOP = """
import threading
import pgflow_starter as pgflow

@pgflow.job("press")
def press(message, ctx):
    print("press begun", flush=True)
    ctx.cancelled.wait(3)
    return "pressed"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def test_the_program_serves_until_its_tasks_have_ended(database: str, folder: Path) -> None:
    env = {"PGFLOW_DSN": database, "PGFLOW_HTTP": ":0"}
    with running(*PROGRAM, "shop:press", "--notify", env=env, cwd=folder) as program:
        found = re.search(r"serving .* at (http://127\.0\.0\.1:\d+)", read_until(program.stderr, "serving the page"))
        assert found is not None
        url = found[1]
        eventually(lambda: get(url, "/readyz").status == 200)
        assert get(url, "/").headers["content-type"].startswith("text/html")
        with pgflow.PgflowClient(database) as client, stream(url) as reader:
            run = client.enqueue("press", 1)
            read_until(program.stdout, "press begun")
            program.send_signal(signal.SIGTERM)
            eventually(lambda: get(url, "/readyz").text == "StarterStopped: the starter was stopped\n", 2)
            while (event := reader.event())[0] == "status":
                pass
            assert event[0] == "ended"
            _, log = program.communicate()
            assert client.run(run.id).result == "pressed"
    assert program.returncode == 0
    assert log.splitlines()[-1].endswith("stopped")


def test_the_program_acts_where_it_is_told_to_and_leads_to_traces(database: str, folder: Path) -> None:
    options = ("--http", ":0", "--actions", "--trace-url", "/traces/{run_id}")
    with running(*PROGRAM, "shop:press", *options, env={"PGFLOW_DSN": database}, cwd=folder) as program:
        found = re.search(r"serving .* at (http://127\.0\.0\.1:\d+)", read_until(program.stderr, "serving the page"))
        assert found is not None
        url = found[1]
        eventually(lambda: get(url, "/readyz").status == 200)
        assert get(url, "/actions").data["actions"] is True
        with pgflow.PgflowClient(database) as client:
            run = client.enqueue("press", 1, delay=500)
        assert get(url, f"/runs/{run.id}").data["run"]["trace_url"] == f"/traces/{run.id}"
        token = get(url, "/actions").data["token"]
        body = f'{{"run": "{run.id}"}}'.encode()
        assert post(url, "/actions/cancel", body, X_Pgflow_Token=token).data["status"] == "failed"


def test_a_link_to_traces_that_leads_nowhere_is_bad_usage(folder: Path) -> None:
    done = finished(*PROGRAM, "shop:press", "--trace-url", "traces", cwd=folder)
    assert done.returncode == 2
    assert "trace_url must begin with http://, https:// or /" in done.stderr


def test_an_address_that_is_none_is_bad_usage(folder: Path) -> None:
    done = finished(*PROGRAM, "shop:press", "--http", "nowhere", cwd=folder)
    assert done.returncode == 2
    assert "Invalid value for '--http'" in done.stderr
    assert "an address to listen on is HOST:PORT" in done.stderr


def test_an_address_that_is_taken_ends_the_program_with_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = finished(*PROGRAM, "shop:press", "--dsn", "host=127.0.0.1 port=1", "--http", f":{port}", cwd=folder)
    assert done.returncode == 1
    assert f"Error: nothing can listen on 127.0.0.1:{port}: Address already in use" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
