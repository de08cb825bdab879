"""`pgflow-starter run --metrics`."""

from __future__ import annotations

import re
import signal
import socket
import sys
from pathlib import Path

import pytest

import pgflow_starter as pgflow
from tests.support.commands import call
from tests.support.exposition import samples
from tests.support.programs import finished, read_until, running
from tests.support.waiting import eventually
from tests.web.client import get

PROGRAM = ("-m", "pgflow_starter", "run")
NOWHERE = ("--dsn", "host=127.0.0.1 port=1")
SHOP = """
import pgflow_starter as pgflow

@pgflow.job("press")
def press(message, ctx):
    print("press begun", flush=True)
    ctx.cancelled.wait(2)
    return "pressed"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def test_the_program_serves_them_until_its_tasks_have_ended(database: str, folder: Path) -> None:
    env = {"PGFLOW_DSN": database, "PGFLOW_METRICS": ":0"}
    with running(*PROGRAM, "shop:press", "--notify", env=env, cwd=folder) as program:
        said = read_until(program.stderr, "serving metrics")
        found = re.search(r"serving metrics at (http://127\.0\.0\.1:\d+)/metrics", said)
        assert found is not None
        url = found[1]

        def there() -> dict[str, float]:
            return {sample.name: sample.value for sample in samples(get(url, "/metrics").text)}

        eventually(lambda: there().get("pgflow_starter_ready") == 1)
        eventually(lambda: "pgflow_queue_depth" in there())
        assert get(url, "/").status == 404
        assert get(url, "/metrics", host="evil.example").status == 421
        with pgflow.PgflowClient(database) as client:
            client.enqueue("press", 1)
            read_until(program.stdout, "press begun")
            program.send_signal(signal.SIGTERM)
            read_until(program.stderr, "stopping")
            assert "pgflow_worker_task_active" in there()
            _, log = program.communicate()
    assert program.returncode == 0
    assert log.splitlines()[-1].endswith("stopped")


def test_an_address_that_is_none_is_bad_usage(folder: Path) -> None:
    done = finished(*PROGRAM, "shop:press", "--metrics", "nowhere", cwd=folder)
    assert done.returncode == 2
    assert "Invalid value for '--metrics'" in done.stderr
    assert "an address to listen on is HOST:PORT" in done.stderr


def test_an_address_that_is_taken_ends_the_program_with_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = finished(*PROGRAM, "shop:press", *NOWHERE, "--metrics", f":{port}", cwd=folder)
    assert done.returncode == 1
    assert f"Error: nothing can listen on 127.0.0.1:{port}: Address already in use" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["opentelemetry.exporter.prometheus", "prometheus_client", "waitress"])
def test_without_the_extra_it_is_named(missing: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "pgflow_starter.telemetry.prometheus", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    done = call("run", "shop:press", *NOWHERE, "--metrics", ":0")
    assert done.exit_code == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: --metrics needs the extra prometheus (")
    assert "pip install '.[prometheus]'" in last


def test_nothing_of_it_is_loaded_without_the_option(folder: Path) -> None:
    code = (
        "import sys; import pgflow_starter.cli.run; print({'prometheus_client', 'opentelemetry.sdk'} & {*sys.modules})"
    )
    assert finished("-c", code, cwd=folder).stdout == "set()\n"
