"""Five incidents, each looked at cold: told apart and with the next step named, on a phone at night as well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from pgflow_starter import MissedTicks, Outage, Trouble, TroubleKind, TroubleScope
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.readings import QueueDepth
from pgflow_starter.core.views import Ended, Failing, FlowQueue, StepFailures, WorkerRow
from tests.browser.chromium import PHONE, WIDE, Page
from tests.browser.desk import Desk, served
from tests.support.waiting import eventually
from tests.web.stage import Stage, module, schedule, worker

COLD = 10.0
"""Seconds in which whoever is on call sees what is wrong."""

NOW = SystemClock().now()
SINCE = NOW - timedelta(seconds=30)


def stage(**more: object) -> Stage:
    return Stage(**{"modules": (module("order"),), "workers_": (worker("order"),), **more})  # type: ignore[arg-type]


def dead_database() -> Stage:
    return stage(outage=Outage(SINCE, "connection refused"))


def missing_grant() -> Stage:
    trouble = Trouble(TroubleKind.CLAIMS_REFUSED, "permission denied for table runs", SINCE, "42501", TroubleScope.ALL)
    return stage(workers_=(worker("order", trouble=trouble),))


def failing_step() -> Stage:
    failures = StepFailures("order", "charge", 34, SINCE, UUID(int=5), "RuntimeError: card declined")
    return stage(failing=Failing((failures,), ended=(Ended("order", 680, 34),)))


def stuck_queue() -> Stage:
    rows = [
        WorkerRow(UUID(int=n), slug, slug, None, NOW - timedelta(seconds=age), None, alive=True)
        for n, (slug, age) in enumerate((("order", 35), ("mail", 1)))
    ]
    return stage(queues=(FlowQueue("order", None, QueueDepth("order", 90, 0, 30.0), 0),), worker_rows=tuple(rows))


def late_schedule() -> Stage:
    return stage(schedules=(schedule("nightly", starting=SINCE),))


def missed_ticks() -> Stage:
    return stage(schedules=(schedule("nightly", missed=MissedTicks(5, SINCE, NOW, "the database was away")),))


INCIDENTS = {
    dead_database: ("The database is away", "See that the server runs"),
    missing_grant: ("A right is missing: worker of order can do no work", "pgflow-starter db grant ROLE --apply"),
    failing_step: ("Step charge of order fails: 34 runs in the last hour", "Open the last one for its traceback"),
    stuck_queue: ("90 messages wait in queue order", "See that the processes live that have order"),
    late_schedule: ("Schedule nightly is late", "See who holds a lock"),
    missed_ticks: ("Schedule nightly missed 5 ticks", "pgflow-starter flow start nightly INPUT"),
}


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)])
@pytest.mark.parametrize("incident", INCIDENTS)
def test_each_incident_is_told_with_its_next_step(
    page: Page, incident: Callable[[], Stage], scheme: str, size: tuple[int, int]
) -> None:
    title, then = INCIDENTS[incident]
    with served(Desk(incident(), {})) as url:
        page.open(url, scheme=scheme, size=size)
        page.shows(title, ".problem h3", COLD)
        assert then in page.text(".problem .next")
        assert len(page.texts(".problem")) == 1


def test_what_of_a_schedule_is_a_warning_is_not_red(page: Page) -> None:
    with served(Desk(missed_ticks(), {})) as url:
        page.open(url)
        page.shows("5 ticks missed: the database was away", "#schedules", COLD)
        assert page.run("return document.querySelector('#schedules tbody tr').dataset.tone") == "warn"


def test_however_long_the_reason_of_an_outage_the_next_step_is_on_a_phone_s_screen(page: Page) -> None:
    reason = (
        'connection to server on socket "/var/run/postgresql/.s.PGSQL.5432" failed: ' + "Is the server running? " * 6
    )
    with served(Desk(stage(outage=Outage(SINCE, reason)), {})) as url:
        page.open(url, size=PHONE)
        page.shows("The database is away", ".problem h3", COLD)
        eventually(lambda: page.text(".outage").endswith("."))
        next_ = page.run("return document.querySelector('.problem .next').getBoundingClientRect().bottom")
        assert next_ <= PHONE[1]


def test_workers_that_can_do_no_work_are_not_told_as_nothing_registered(page: Page) -> None:
    with served(Desk(missing_grant(), {})) as url:
        page.open(url)
        page.shows("no, 1 worker stuck", "#banner", COLD)
