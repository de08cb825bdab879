"""What is printed for Prometheus has the names and the labels of the catalogue."""

from __future__ import annotations

from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.telemetry import names
from pgflow_starter.worker import tally
from tests.support.exposition import exposing, printed
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

WAIT = 30.0
SELDOM = {names.METRIC_RESTARTS}
"""What takes a crash."""


def as_printed(name: str) -> str:
    return name.replace(".", "_")


def test_each_metric_has_the_labels_that_the_catalogue_says(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "INTERVAL", 0.1)

    @pgflow.job("bad", max_attempts=2, base_delay=0)
    def bad(message: Any, ctx: pgflow.TaskContext) -> None:
        raise ValueError("wrong")

    job = echo_job()
    schedules = [pgflow.Schedule("* * * * * *", job)]
    with exposing() as exposition:
        settings: dict[str, Any] = {"meter_provider": exposition.provider, "schedules": schedules}
        with running(database, flows=[object()], jobs=[job, bad], signal_strategy="notify", **settings) as starter:
            for each in (job, bad):
                starter.client.enqueue(each, 1).wait(WAIT)
            wanted = {
                as_printed(name): {as_printed(attribute) for attribute in attributes}
                for name, attributes in names.ATTRIBUTES_OF.items()
                if name not in SELDOM
            }

            def labels() -> dict[str, set[str]]:
                found: dict[str, set[str]] = {}
                for sample in printed(exposition):
                    for name in wanted:
                        if sample.name.removesuffix("_total") in (name, f"{name}_seconds", f"{name}_seconds_count"):
                            found.setdefault(name, set()).update(sample.labels)
                return found

            eventually(lambda: labels() == wanted, WAIT, "the labels of the catalogue")


def test_all_metrics_are_in_the_catalogue() -> None:
    metrics = {value for name, value in vars(names).items() if name.startswith("METRIC_")}
    assert metrics == set(names.ATTRIBUTES_OF)
