"""The whole way: a real starter, a real database, real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter import web
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.databases import FAST, memory_folder
from tests.support.starters import echo_job, opened, running
from tests.support.waiting import eventually
from tests.web.client import get
from tests.web.test_data import checked

PATHS = ("/livez", "/readyz", "/healthz", "/status", "/runs", "/queues", "/workers")
SECRET = "hunter2-never-shown"


@contextmanager
def served(conninfo: str, **arguments: Any) -> Iterator[tuple[pgflow.Starter, str]]:
    """A starter with quick settings and the address where it is served."""
    with running(conninfo, **arguments) as starter, web.serve(starter, ":0") as server:
        yield starter, server.url


@pytest.fixture
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, on TCP, everything installed, to be stopped and started."""
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


def statuses(url: str) -> tuple[int, int, int]:
    answers = [get(url, probe).status for probe in ("/livez", "/readyz", "/healthz")]
    return answers[0], answers[1], answers[2]


def test_from_a_database_that_is_down_to_ready_and_through_an_outage(own_server: EmbeddedPostgres) -> None:
    own_server.stop()
    jobs = [echo_job(f"job_{i}") for i in range(5)]
    with served(own_server.conninfo(), jobs=jobs) as (starter, url):
        eventually(lambda: all(m.attempts >= 2 for m in starter.status().modules))
        assert statuses(url) == (200, 503, 503)
        said = get(url, "/readyz").text
        for job in jobs:
            assert f"{job.slug}: retrying, attempt " in said
        assert "phase worker failed [" in said
        assert "\ndatabase: away since 20" in said
        assert checked(url, "/status")["outage"] is not None
        assert "is away" in checked(url, "/runs")["error"]
        own_server.start()
        eventually(lambda: statuses(url) == (200, 200, 200))
        assert starter.client.enqueue(jobs[0], 1).wait(10).result == 1
        eventually(lambda: checked(url, "/runs")["runs"], 5)
        own_server.stop()
        eventually(lambda: checked(url, "/status")["outage"])
        assert statuses(url) == (200, 200, 200)
        told = checked(url, "/runs")
        assert "is away" in told["error"]
        assert [r["flow_slug"] for r in told["runs"]] == ["job_0"]


def test_a_module_that_failed_for_good_is_told_with_its_remedy(database: str) -> None:
    with served(database, jobs=[echo_job()], flows=["no_such_module_here"]) as (starter, url):
        starter.await_ready(10)
        assert statuses(url) == (200, 200, 200)
        assert "no_such_module_here: failed_permanent, attempt 1, phase registry failed [" in get(url, "/readyz").text
    with served(database, flows=["no_such_module_here"]) as (starter, url):
        starter.await_ready(10)
        assert statuses(url) == (200, 200, 503)


def test_a_worker_that_is_killed_is_seen_and_its_return_too(database: str) -> None:
    jobs = [echo_job("kept"), echo_job("killed")]
    with opened(database, jobs=jobs) as (starter, runtime), web.serve(starter, ":0") as server:
        url = server.url
        starter.await_ready(10)
        assert statuses(url) == (200, 200, 200)
        with psycopg.connect(database) as holder:
            holder.execute("lock table pgflow.workers")  # it cannot register again meanwhile
            (ref,) = [c.ref for c in runtime.parts.workers.cells() if c.definition.slug == "killed"]
            assert ref is not None
            ref.stop(block=False)
            eventually(lambda: statuses(url) == (200, 503, 503), 5)
            assert "worker of killed: lost" in get(url, "/healthz").text
            assert "\nkilled: retrying, attempt " in get(url, "/readyz").text
            assert {w["slug"]: w["lost"] for w in checked(url, "/status")["workers"]} == {"kept": False, "killed": True}
        eventually(lambda: statuses(url) == (200, 200, 200), 10)


def test_of_a_starter_that_was_stopped_no_probe_is_good(database: str) -> None:
    with served(database, jobs=[echo_job()]) as (starter, url):
        starter.await_ready(10)
        starter.stop()
        assert statuses(url) == (503, 503, 503)
        assert get(url, "/status").data["error"] == get(url, "/runs").data["error"] == "StarterStopped"
        assert get(url).status == 200


def test_neither_passwords_nor_payloads_are_on_anything(database: str, caplog: pytest.LogCaptureFixture) -> None:
    flow = pgflow.Flow("parcel", max_attempts=1)
    flow.step(slug="pack")(lambda given, ctx: SECRET)

    @flow.step(slug="send", depends_on=["pack"])
    def send(deps: Any, ctx: Any) -> Any:
        raise ValueError(SECRET)

    with served(f"{database} password={SECRET}", flows=[flow]) as (starter, url):
        starter.await_ready(10)
        starter.client.start_flow(flow, {"card": SECRET}).wait(10)
        eventually(lambda: checked(url, "/runs")["runs"], 5)
        (run,) = checked(url, "/runs")["runs"]
        assert [(s["slug"], s["status"]) for s in run["steps"]] == [("pack", "completed"), ("send", "failed")]
        assert [w["failed"] for w in checked(url, "/status")["workers"]] == [1]
        for path in PATHS:
            assert SECRET not in get(url, path).text
    with served(f"host=127.0.0.1 port=1 user=u password={SECRET}", flows=[flow]) as (starter, url):
        eventually(lambda: starter.status().outage)
        for path in PATHS:
            assert SECRET not in get(url, path).text


def test_the_status_tells_of_flows_workers_and_the_supervision_tree(database: str) -> None:
    flow = pgflow.Flow("order")
    flow.step(slug="lines")(lambda given, ctx: [1, 2])
    flow.map(array="lines", slug="price")(lambda line, ctx: line)
    with served(database, flows=[flow], jobs=[echo_job()], signal_strategy="notify") as (starter, url):
        starter.await_ready(10)
        starter.client.start_flow(flow, {}).wait(10)
        eventually(
            lambda: (
                checked(url, "/status")["workers"][0]["completed"] + checked(url, "/status")["workers"][1]["completed"]
                == 3
            )
        )
        data = checked(url, "/status")
    assert {f["slug"]: f["kind"] for f in data["flows"]} == {"order": "flow", "echo": "job"}
    (steps,) = [f["steps"] for f in data["flows"] if f["slug"] == "order"]
    assert [(s["slug"], s["kind"], s["depends_on"]) for s in steps] == [
        ("lines", "single", []),
        ("price", "map", ["lines"]),
    ]
    assert {c["parent"] for c in data["children"]} == {None, "root", "workers", "modules"}
    assert json.dumps(data)
