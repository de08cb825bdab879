"""The examples do what they say: each as the process that a reader would start."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.databases import fresh_database
from tests.support.programs import ROOT, finished, read_until, running
from tests.support.starters import echo_job
from tests.support.waiting import eventually

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_threaded_service_works_until_a_signal_and_then_ends_in_order(
    database: str, number: signal.Signals
) -> None:
    with running("examples/threaded_service.py", database) as service:
        read_until(service.stdout, "thumbnail of back-1.jpg, attempt 1")
        service.send_signal(number)
        said, errors = service.communicate()
    assert said.splitlines()[-1] == "MainThread: stopped"
    assert f"MainThread: {number.name}: the threads first, then the starter" in said
    assert "is lost" not in said
    assert (service.returncode, errors) == (0, "")


def test_the_threaded_service_brings_its_own_database_when_none_is_given() -> None:
    with running("examples/threaded_service.py") as service:
        read_until(service.stdout, "thumbnail of")
        service.send_signal(signal.SIGTERM)
        service.communicate()
    assert service.returncode == 0


def test_the_proxies_answer_at_once_and_after_a_restart(database: str) -> None:
    done = finished("examples/proxies.py", database)
    states, reason = done.stdout.splitlines()[:2], done.stdout.splitlines()[2]
    assert states == ["greeting: succeeded", "count_letters: succeeded"]
    assert reason.startswith("no.such:flow: failed_permanent, importing 'no.such:flow' raised ModuleNotFoundError")
    assert done.stdout.splitlines()[3:] == [
        "failed: no.such:flow",
        "healthy after a restart: True",
        "restarts: 1",
        "hello ada",
    ]
    assert done.returncode == 0


def test_the_operator_has_it_tried_again_while_the_database_is_down_and_once_it_is_up() -> None:
    done = finished("examples/operator_retry.py")
    told, before, during, after, result = done.stdout.splitlines()
    assert told.startswith("not ready after 2 s: 1 of 1 modules are not terminal: backup: retrying, attempt 1")
    assert before.startswith("backup: retrying, attempt 1, connection is bad")
    assert during.startswith("backup: retrying")
    assert after.startswith("backup: succeeded, attempt ")
    assert int(after.rpartition(" ")[2]) <= 4  # the first, one for each call, and what the database's return brought
    assert result == "everything is safe"
    assert done.returncode == 0


def test_the_operator_may_have_a_healthy_module_tried_again(database: str) -> None:
    done = finished("examples/operator_retry.py", database)
    assert done.stdout.splitlines()[-1] == "everything is safe"
    assert done.returncode == 0


def test_the_supervised_service_is_restarted_after_what_its_handlers_need(database: str) -> None:
    done = finished("examples/supervised_service.py", database)
    assert done.stdout.splitlines() == [
        "1000 yen are 6.00 euros",
        "{'rates': 1, 'pgflow': 1}",
        "20 pounds are 23.00 euros",
        "the starter was stopped with its supervisor",
    ]
    assert done.returncode == 0


def test_jobs_are_spread_over_two_databases(database: str, server: EmbeddedPostgres, template: str) -> None:
    with fresh_database(server, template) as other:
        done = finished("examples/several_databases.py", database, other)
        assert done.stdout.splitlines() == ["invoice for ada", "invoice for bob", "invoice for carol", "[True, True]"]
        assert done.returncode == 0
        for dsn in (database, other):
            with psycopg.connect(dsn) as conn:
                runs = conn.execute("select count(*) from pgflow.runs where status = 'completed'").fetchone()
            assert runs is not None
            assert runs[0] > 0


def test_the_fastapi_application_enqueues_waits_and_ends_in_order(database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        unserved = client.enqueue(echo_job("unserved")).id
    serve = ("-m", "uvicorn", "fastapi_app:app", "--port", "0", "--no-access-log")
    with running(*serve, env={"PGFLOW_DSN": database, "PYTHONUNBUFFERED": "1"}, cwd=ROOT / "examples") as server:
        said = read_until(server.stderr, "running on http://127.0.0.1:")
        at = said.rpartition("running on ")[2].partition(" ")[0]
        _, made = _asked(f"{at}/reports?title=May&seconds=0.2", method="POST")
        assert _asked(f"{at}/reports/{made['run']}?patience=30") == (
            200,
            {"status": "completed", "result": {"title": "May"}, "error": None},
        )
        assert _asked(f"{at}/reports/{unserved}") == (200, {"status": "started", "result": None, "error": None})
        assert _asked(f"{at}/reports/{UUID(int=1)}") == (404, {"error": f"there is no run {UUID(int=1)}"})
        eventually(lambda: _asked(f"{at}/healthz")[0] == 200, 30, "LISTEN in force, which a run needs not")
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate()
    assert "Traceback" not in errors
    assert "Finished server process" in errors


STARLETTE = """
from fastapi_app import lifespan, report
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def order_report(request):
    run = await request.app.state.starter.client.aio.enqueue(report, {"title": "May", "seconds": 1.5})
    return JSONResponse({"run": str(run.id)}, 202)

app = Starlette(lifespan=lifespan, routes=[Route("/reports", order_report, methods=["POST"])])
"""


def test_the_same_lifespan_serves_starlette_in_several_processes_and_drains(database: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(STARLETTE)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "examples", tmp_path)))
    serve = ("-m", "uvicorn", "shop:app", "--port", "0", "--workers", "2", "--no-access-log")
    with (
        running(*serve, env={"PGFLOW_DSN": database, "PYTHONPATH": path}, cwd=tmp_path) as server,
        psycopg.connect(database, autocommit=True) as connection,
    ):

        def count(query: LiteralString) -> int:
            return len(connection.execute(query).fetchall())

        said = read_until(server.stderr, "running on http://127.0.0.1:")
        at = said.rpartition("running on ")[2].partition(" ")[0]
        eventually(lambda: count("select from pgflow.workers") == 2, 30, "a worker in each process")
        assert {_asked(f"{at}/reports", method="POST")[0] for _ in range(15)} == {202}
        under_way = "select distinct last_worker_id from pgflow.step_tasks where status = 'started'"
        eventually(lambda: count(under_way) == 2, 10, "tasks in both processes")
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate()
        assert "Traceback" not in errors
        assert errors.count("Finished server process") == 2
        assert count("select from pgflow.step_tasks where status = 'started'") == 0
        assert count("select from pgflow.step_tasks where status = 'completed'") >= 10
        assert count("select from pgflow.workers where deprecated_at is null") == 0


def _asked(url: str, method: str = "GET") -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_fits_on_two_screens(example: Path) -> None:
    assert len(example.read_text().splitlines()) < 80


def test_the_readme_s_code_runs_as_it_stands(database: str) -> None:
    code = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert code.count("host=localhost dbname=shop") == 1
    done = finished("-c", code.replace("host=localhost dbname=shop", database))
    assert (done.stdout, done.returncode) == ("completed {'cents': 3800, 'customer': 'ada'}\n", 0)
