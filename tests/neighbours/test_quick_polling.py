"""A polling worker that had work is quick to find more, whatever an idle one's interval is."""

from __future__ import annotations

import pytest

import pgflow_starter as pgflow
from pgflow_starter.worker import poll_intervals
from tests.support.starters import echo_job, running

PATIENT = {"min_poll_interval": 300.0, "max_poll_interval": 300.0}


def test_what_somebody_else_enqueues_after_work_is_found_soon(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_intervals, "PATIENT", PATIENT["min_poll_interval"])
    job = echo_job()
    with running(database, jobs=[job], **PATIENT) as starter, pgflow.PgflowClient(database) as elsewhere:
        starter.client.enqueue(job, "first").wait(20)
        for number in range(5):
            assert elsewhere.enqueue(job, number).wait(20).result == number
