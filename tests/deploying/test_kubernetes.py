"""The Kubernetes manifest: its probes ask for what there is, and an outage restarts nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import yaml

import pgflow_starter as pgflow
from pgflow_starter.web import application
from pgflow_starter.web.metrics import PATH
from tests.support.deployed import FOLDER, NEEDED, listens_at
from tests.support.starters import QUICK, running

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    text = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def pod(documents: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = documents["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def worker(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return dict(container)


def answer(starter: pgflow.Starter, path: str) -> int:
    """The status code of the web application."""
    environ: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    codes: list[int] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        codes.append(int(status.split(maxsplit=1)[0]))
        return bytes

    list(application(starter)(environ, start_response))
    return codes[0]


def test_the_program_listens_where_the_probes_ask(worker: dict[str, Any]) -> None:
    (host, port), _ = listens_at(shlex.join(["pgflow-starter", *worker["args"]]))
    assert host == "0.0.0.0"
    assert {"name": "http", "containerPort": port} in worker["ports"]
    assert {worker[name]["httpGet"]["port"] for name in PROBES} == {"http"}


def test_its_metrics_are_scraped_where_they_are_served(documents: dict[str, Any], worker: dict[str, Any]) -> None:
    _, (host, port) = listens_at(shlex.join(["pgflow-starter", *worker["args"]]))
    assert host == "0.0.0.0"
    assert {"name": "metrics", "containerPort": port} in worker["ports"]
    told = documents["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert told == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": PATH,
    }


def test_a_database_that_is_away_at_the_start_restarts_nothing(worker: dict[str, Any]) -> None:
    paths = {name: worker[name]["httpGet"]["path"] for name in PROBES}

    @pgflow.job("send_email")
    def send_email(message: Any, ctx: Any) -> Any: ...

    with running("host=127.0.0.1 port=1", jobs=[send_email], **QUICK) as starter:
        assert {name: answer(starter, path) for name, path in paths.items()} == {
            "startupProbe": 200,
            "livenessProbe": 200,
            "readinessProbe": 503,
        }


def test_a_version_whose_modules_all_failed_holds_up_its_rollout(worker: dict[str, Any]) -> None:
    with running("host=127.0.0.1 port=1", flows=["no.such:flow"]) as starter:
        starter.await_ready(10)
        assert answer(starter, "/readyz") == 200
        assert answer(starter, worker["readinessProbe"]["httpGet"]["path"]) == 503


def test_it_is_given_the_time_to_drain(pod: dict[str, Any], worker: dict[str, Any]) -> None:
    program, seconds = worker["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert pod["terminationGracePeriodSeconds"] >= float(seconds) + NEEDED


def test_the_deployment_is_consistent_in_itself(documents: dict[str, Any], worker: dict[str, Any]) -> None:
    deployment, service = documents["Deployment"]["spec"], documents["Service"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == service["selector"]
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (dsn,) = worker["env"]
    assert dsn["name"] == "PGFLOW_DSN"
    assert set(dsn["valueFrom"]) == {"secretKeyRef"}


def test_it_may_do_no_more_than_it_needs_to(pod: dict[str, Any], worker: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
