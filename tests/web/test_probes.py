"""What the probes say, by what a starter says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgflow_starter import (
    Outage,
    PgflowError,
    Phase,
    StarterStopped,
    StarterTerminated,
    Trouble,
    TroubleKind,
    TroubleScope,
    web,
)
from tests.web.client import Answer, get
from tests.web.stage import STARTED, Stage, module, worker

PROBES = ("/livez", "/readyz", "/healthz")


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def url(stage: Stage) -> Iterator[str]:
    with web.serve(stage, ":0") as server:
        yield server.url


def statuses(url: str) -> list[int]:
    return [get(url, probe).status for probe in PROBES]


def test_without_modules_all_is_well(url: str) -> None:
    assert statuses(url) == [200, 200, 200]


def test_what_is_not_ready_is_told_with_all_that_helps(stage: Stage, url: str) -> None:
    reason = "the queue is locked by pid 7: end that session or wait"
    stage.modules = (module("order"), module("mail", "retrying", reason=reason), module("late", "pending", attempts=0))
    assert statuses(url) == [200, 503, 200]
    lines = get(url, "/readyz").text.splitlines()
    assert lines[0] == "not ready: 2 of 3 modules are not terminal"
    assert lines[1].startswith(f"mail: retrying, attempt 7, phase worker failed [55P03]: {reason}, next attempt at 20")
    assert lines[1].endswith(" s)")
    assert lines[2:] == ["late: pending, attempt 0"]


def test_a_worker_that_is_kept_from_all_work_for_long_is_not_healthy(stage: Stage, url: str) -> None:
    fine, stuck = module("order"), module("order", "retrying", reason="no right on runs", phase=Phase.WORKER)
    for order, scope, healthz in ((fine, "all", 200), (stuck, "some", 200), (stuck, "all", 503)):
        stage.modules = (order, module("mail"))
        trouble = Trouble(TroubleKind.CLAIMS_REFUSED, "no right on runs", STARTED, "42501", TroubleScope(scope))
        stage.workers_ = (worker("order", trouble=trouble),)
        assert statuses(url) == [200, 503 if order is stuck else 200, healthz]
    lines = get(url, "/healthz").text.splitlines()
    why = "no right on runs; see docs/troubleshooting.md#claims-refused"
    assert lines[:2] == ["not healthy: 1 worker can do no work", f"worker of order: {why}"]


def test_a_phase_in_progress_is_told(stage: Stage, url: str) -> None:
    stage.modules = (module("order", "pending", phase=Phase.NOTIFY_DB),)
    assert "order: pending, attempt 1, in phase notify_db" in get(url, "/readyz").text


def test_a_module_that_failed_for_good_is_told_although_ready(stage: Stage, url: str) -> None:
    stage.modules = (module("order"), module("mail", "failed_permanent", reason="no such thing", code="42P01"))
    assert statuses(url) == [200, 200, 200]
    for probe in ("/readyz", "/healthz"):
        assert "mail: failed_permanent, attempt 1, phase worker failed [42P01]: no such thing" in get(url, probe).text


def test_where_nothing_succeeded_it_is_ready_but_not_healthy(stage: Stage, url: str) -> None:
    stage.modules = (module("mail", "failed_permanent", reason="no such thing"),)
    assert statuses(url) == [200, 200, 503]
    assert get(url, "/healthz").text.startswith("not healthy: none of 1 modules has succeeded\nmail: failed_permanent")


def test_a_lost_worker_is_not_healthy_and_one_that_was_to_stop_is_none(stage: Stage, url: str) -> None:
    stage.modules = (module("order"), module("mail"))
    stage.workers_ = (worker("order"), worker("mail", alive=False, draining=True))
    assert statuses(url) == [200, 200, 200]
    stage.workers_ = (worker("order", alive=False), worker("mail"))
    assert statuses(url) == [200, 200, 503]
    said = get(url, "/healthz").text
    assert said == "not healthy: 1 worker is lost\nworker of order: lost, its module registers again\n"


def test_an_outage_is_told_beside_what_it_keeps_from_being_ready(stage: Stage, url: str) -> None:
    stage.modules = (module("order", "retrying", reason="the database cannot be reached", code="08001"),)
    stage.outage = Outage(STARTED, "connection refused")
    for probe in ("/readyz", "/healthz"):
        last = get(url, probe).text.splitlines()[-1]
        said, see = last.split("; ")
        assert said == "database: away since 2026-03-01T12:00:00Z: connection refused"
        assert see == "see docs/troubleshooting.md#database-away"


@pytest.mark.parametrize("end", [StarterStopped("the starter was stopped"), StarterTerminated("it gave up")])
def test_of_a_starter_that_has_ended_no_probe_is_good(stage: Stage, url: str, end: PgflowError) -> None:
    stage.end = end
    for probe in PROBES:
        answer = get(url, probe)
        assert answer.status == 503
        assert answer.text == f"{type(end).__name__}: {end}\n"


def test_a_name_cannot_forge_a_line(stage: Stage, url: str) -> None:
    stage.modules = (module("order\nready", "retrying", reason="a\r\nready"),)
    lines = get(url, "/readyz").text.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("order ready: retrying, attempt 7, phase worker failed [55P03]: a ready,")


@pytest.mark.parametrize("probe", PROBES)
def test_answers_are_plain_text_that_nobody_keeps(url: str, probe: str) -> None:
    def shown(answer: Answer) -> tuple[str, str, str]:
        return (
            answer.headers["content-type"],
            answer.headers["cache-control"],
            answer.headers["x-content-type-options"],
        )

    answer, head = get(url, probe), get(url, probe, "HEAD")
    assert shown(answer) == shown(head) == ("text/plain; charset=utf-8", "no-store", "nosniff")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))
