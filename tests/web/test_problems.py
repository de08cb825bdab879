"""What is found wrong in what was seen: a table, and the order."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from pgflow_starter import MissedTicks, Outage, Phase, StarterStatus, Trouble, TroubleKind, TroubleScope
from pgflow_starter.core.readings import QueueDepth
from pgflow_starter.core.symptoms import PAGE, Symptom
from pgflow_starter.core.trouble import with_remedy
from pgflow_starter.core.views import Ended, Failing, FlowQueue, StepFailures, StepRetries, WorkerRow
from pgflow_starter.web.problems.found import problems
from pgflow_starter.web.problems.problem import Seen
from tests.support.programs import ROOT
from tests.web.stage import STARTED, module, schedule, worker

NOW = STARTED + timedelta(hours=1)
RUN = UUID(int=5)
WELL = StarterStatus(True, True, STARTED, STARTED, (module("order"),))
SEEN = Seen(NOW, WELL, (worker("order"),))


def seen_with(**status: object) -> Seen:
    """As `SEEN`, with another status."""
    return SEEN._replace(status=replace(WELL, **status))  # type: ignore[arg-type]


def waiting(age: float | None, count: int = 12) -> tuple[FlowQueue, ...]:
    return (FlowQueue("order", None, QueueDepth("order", count, 0, age), 0),)


def living(slug: str = "order", *, alive: bool = True) -> tuple[WorkerRow, ...]:
    return (WorkerRow(UUID(int=7), slug, slug, None, NOW, None, alive),)


def beaten(slug: str, ago: float) -> WorkerRow:
    """A worker that counts as alive, and was last heard of so many seconds ago."""
    return WorkerRow(UUID(int=7), slug, slug, None, NOW - timedelta(seconds=ago), None, alive=True)


def troubled(scope: TroubleScope, code: str = "XX000") -> Seen:
    trouble = Trouble(TroubleKind.CLAIMS_REFUSED, "it is broken", STARTED, code, scope)
    return SEEN._replace(workers=(worker("order", trouble=trouble),))


FAILURES = StepFailures("order", "charge", 12, STARTED, RUN, "ValueError: no")
RETRIES = StepRetries("order", "charge", 3, STARTED, RUN, "ValueError: no")
MISSED = MissedTicks(5, STARTED, STARTED + timedelta(minutes=4), "the database was away")
FAR = STARTED + timedelta(days=9999)
ALL, SOME = TroubleScope.ALL, TroubleScope.SOME

_HEADINGS = re.findall(r"^##+ (.+)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
SECTIONS = {Symptom(title, "", ()).place for title in _HEADINGS}

TABLE = {
    "all is well": (SEEN, None, "", ""),
    "a queue that is worked on": (SEEN._replace(queues=waiting(59), rows=living()), None, "", ""),
    "a dead database": (seen_with(outage=Outage(STARTED, "refused")), "database_away bad", "away", "server runs"),
    "a role that may not look": (
        SEEN._replace(unseen="permission denied for table runs"),
        "missing_grant bad",
        "A right is missing: this page cannot look",
        "db grant",
    ),
    "tables that somebody has locked": (
        SEEN._replace(unseen=with_remedy("canceling statement due to lock timeout", "55P03")),
        "not_seen warn",
        "This page cannot look",
        "End the session that holds the lock",
    ),
    "a role that sees runs": (
        SEEN._replace(unseen="permission denied for schema pgmq", sees_runs=True),
        "missing_grant bad",
        "A right is missing: this page cannot look into the queues",
        "db grant",
    ),
    "a slow table of runs": (
        SEEN._replace(unseen="it took too long", sees_queues=True),
        "not_seen warn",
        "cannot look into the runs",
        "asked again",
    ),
    "a slow database": (SEEN._replace(unseen="it took too long"), "not_seen warn", "cannot look", "asked again"),
    "a module without a right": (
        seen_with(modules=(module("order", "failed_permanent", reason="permission denied", code="42501"),)),
        "missing_grant bad",
        "A right is missing: module order failed for good",
        "db grant",
    ),
    "one that ours refuses": (
        seen_with(modules=(module("order", "failed_permanent", reason="it lacks", code="MissingRightsError"),)),
        "missing_grant bad",
        "A right is missing: module order failed for good",
        "db grant",
    ),
    "a module that failed": (
        seen_with(modules=(module("order", "failed_permanent", reason="no such name", code="DefinitionError"),)),
        "module_failed bad",
        "Module order failed for good",
        "Mend",
    ),
    "many that failed alike": (
        seen_with(modules=tuple(module(f"m{n}", "failed_permanent", reason="no") for n in range(9))),
        "module_failed bad",
        "Module m0, m1, m2 and 6 more failed",
        "Mend",
    ),
    "a module that is tried again": (
        seen_with(modules=(module("order", "retrying", reason="locked"),)),
        "module_retrying warn",
        "cannot register yet",
        "tried again by itself",
    ),
    "a worker that can do nothing": (troubled(ALL), "trouble bad", "no work", "the text"),
    "a worker that can do some": (troubled(SOME), "trouble warn", "not all of its work", "the text"),
    "a worker without a right": (
        troubled(SOME, "42501"),
        "missing_grant bad",
        "A right is missing: worker of order",
        "db grant",
    ),
    "a worker that can do nothing, and its module": (
        troubled(ALL)._replace(
            status=replace(WELL, modules=(module("order", "retrying", reason="lock", phase=Phase.WORKER),))
        ),
        "trouble bad",
        "no work",
        "the text",
    ),
    "a worker whose messages somebody has locked": (
        SEEN._replace(
            workers=(worker("order", trouble=Trouble(TroubleKind.LOCKED, "locked", STARTED, "", TroubleScope.ALL)),)
        ),
        "trouble bad",
        "Worker of order can do no work (locked)",
        "End the session that holds the lock",
    ),
    "a worker whose claims wait for a lock": (
        troubled(ALL, "55P03"),
        "trouble bad",
        "Worker of order can do no work (locked)",
        "End the session that holds the lock",
    ),
    "a worker that died": (SEEN._replace(workers=(worker("order", alive=False),)), "worker_lost bad", "died", "log"),
    "one that was told to stop": (SEEN._replace(workers=(worker("order", alive=False, draining=True),)), None, "", ""),
    "a step that fails": (
        SEEN._replace(failing=Failing((FAILURES,), ended=(Ended("order", 240, 12),))),
        "step_failing bad",
        "Step charge of order fails: 12 runs in the last hour; of the flow's last 240 runs 5.0% failed",
        "runs rerun",
    ),
    "a run that failed": (
        SEEN._replace(failing=Failing((replace(FAILURES, failed=1, step=None),), ended=(Ended("order", 3, 1),))),
        "step_failing warn",
        "Runs of order fail: 1 run in the last hour",
        "runs rerun",
    ),
    "a step that fails so often that not all is looked at": (
        SEEN._replace(failing=Failing((replace(FAILURES, since=NOW - timedelta(minutes=6)),), more=True)),
        "step_failing bad",
        "Step charge of order fails: 12 runs in the last 6 min",
        "runs rerun",
    ),
    "a step that is tried again": (
        SEEN._replace(failing=Failing(retries=(RETRIES,))),
        "step_retrying warn",
        "3 tasks of step charge of order are to be tried again",
        "by itself",
    ),
    "a job that is tried again": (
        SEEN._replace(failing=Failing(retries=(replace(RETRIES, step=RETRIES.flow_slug),))),
        "step_retrying warn",
        "3 tasks of step order are to be tried again",
        "by itself",
    ),
    "a queue without a worker": (
        SEEN._replace(queues=waiting(61), rows=living(alive=False)),
        "queue_stuck bad",
        "Nobody works: 12 messages wait in queue order, the oldest for 61 s",
        "Start a process",
    ),
    "a queue whose worker was stopped just now": (SEEN._replace(queues=waiting(19)), None, "", ""),
    "a queue whose worker was stopped": (
        SEEN._replace(queues=waiting(21)),
        "queue_stuck bad",
        "12 messages wait in queue order, the oldest for 21 s",
        "Start a process that has order",
    ),
    "a queue whose worker has been silent for two beats": (
        SEEN._replace(queues=waiting(21), rows=(beaten("order", 20), beaten("mail", 0))),
        "queue_stuck warn",
        "12 messages wait in queue order, the oldest for 21 s",
        "See that the processes live that have order, else start one",
    ),
    "a queue one of whose workers was heard of": (
        SEEN._replace(queues=waiting(59), rows=(beaten("order", 50), beaten("order", 11), beaten("mail", 0))),
        None,
        "",
        "",
    ),
    "a queue of which nobody beats, nor of any other": (
        SEEN._replace(queues=waiting(59), rows=(beaten("order", 40), beaten("mail", 35))),
        None,
        "",
        "",
    ),
    "a queue whose worker is full": (
        SEEN._replace(queues=waiting(61, 1), rows=living(), workers=(worker("order", running=10),)),
        "queue_stuck warn",
        "1 message waits in queue order",
        "max_concurrency",
    ),
    "a queue that waits for long": (
        SEEN._replace(queues=waiting(600), rows=living()),
        "queue_stuck bad",
        "the oldest for 10 min",
        "Its workers live",
    ),
    "a queue that waits for long and is worked off": (
        SEEN._replace(queues=waiting(600), rows=living(), done={"order": 4}),
        "queue_behind warn",
        "12 messages wait in queue order, the oldest for 10 min",
        "Wait, or",
    ),
    "a queue that was worked off, and nobody works any more": (
        SEEN._replace(queues=waiting(600), done={"order": 4}),
        "queue_stuck bad",
        "Nobody works",
        "Start a process",
    ),
    "a schedule that failed": (
        seen_with(schedules=(schedule("nightly", error="not in the database"),)),
        "schedule_failed bad",
        "could not start",
        "Mend",
    ),
    "a schedule that is due": (
        seen_with(schedules=(schedule("nightly", next_at=NOW - timedelta(seconds=150)),)),
        "schedule_late bad",
        "Schedule nightly is late",
        "process",
    ),
    "a schedule that was late": (
        seen_with(schedules=(schedule("nightly", last_late=61.0),)),
        "schedule_late warn",
        "was late",
        "away",
    ),
    "a schedule that missed ticks": (
        seen_with(schedules=(schedule("nightly", missed=MISSED),)),
        "schedule_missed warn",
        "Schedule nightly missed 5 ticks",
        "`pgflow-starter flow start nightly INPUT`",
    ),
    "a schedule without a right": (
        seen_with(schedules=(schedule("nightly", error="permission denied", last_error_type="42501"),)),
        "missing_grant bad",
        "A right is missing: schedule nightly could not start its run",
        "db grant",
    ),
    "a schedule that waited for a lock": (
        seen_with(schedules=(schedule("nightly", error="lock timeout", last_error_type="55P03"),)),
        "schedule_failed bad",
        "Schedule nightly could not start its run",
        "End the session that holds the lock",
    ),
    "a schedule that waits for a lock": (
        seen_with(schedules=(schedule("nightly", starting=NOW - timedelta(seconds=12)),)),
        "schedule_late warn",
        "Schedule nightly is late",
        "See who holds a lock",
    ),
    "a schedule that waits for long": (
        seen_with(schedules=(schedule("nightly", starting=NOW - timedelta(seconds=61)),)),
        "schedule_late bad",
        "Schedule nightly is late",
        "See who holds a lock",
    ),
    "a schedule that failed, and its tick is left": (
        seen_with(schedules=(schedule("nightly", error="canceling statement", missed=replace(MISSED, last=FAR)),)),
        "schedule_failed bad",
        "could not start",
        "this tick is not tried again",
    ),
    "many runs without an index": (
        SEEN._replace(failing=Failing(indexed=False)),
        "no_index warn",
        "slowly",
        "CREATE INDEX CONCURRENTLY",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_each_thing_that_is_wrong_is_told_with_what_to_do(case: str) -> None:
    seen, kind, title, then = TABLE[case]
    found = problems(seen)
    assert [f"{problem.kind} {problem.severity}" for problem in found] == ([] if kind is None else [kind])
    for problem in found:
        assert title in problem.title
        assert then in problem.next
        assert problem.next.endswith(".")
        assert problem.more is not None
        assert problem.more in SECTIONS or problem.kind == "no_index"


def test_a_module_fails_since_its_first_attempt_not_since_the_last() -> None:
    mail = module("mail", "retrying", reason="locked", failing_since=STARTED)
    assert [problem.since for problem in problems(seen_with(modules=(mail,)))] == [STARTED]


def test_a_queue_waits_since_its_message_came_however_long_ago_it_was_looked_at() -> None:
    looked = NOW - timedelta(seconds=20)
    found = problems(SEEN._replace(queues=waiting(60), queues_at=looked))
    assert [problem.since for problem in found] == [looked - timedelta(seconds=60)]


def test_a_queue_that_moves_says_how_fast() -> None:
    found = problems(SEEN._replace(queues=waiting(600, 90_000), rows=living(), done={"order": 3_000}))
    assert [p.detail for p in found] == ["It moves: 3,000 done in the last 2 min, at which pace this takes 60 min."]


def test_since_when_a_step_fails_is_not_told_where_nobody_looked_so_far_back() -> None:
    for more, since in ((False, STARTED), (True, None)):
        found = problems(SEEN._replace(failing=Failing((FAILURES,), more=more)))
        assert [problem.since for problem in found] == [since]


def test_the_section_of_a_module_is_that_of_its_error() -> None:
    mail = module("mail", "failed_permanent", reason="other steps", code="ShapeMismatchError")
    assert [problem.more for problem in problems(seen_with(modules=(mail,)))] == [f"{PAGE}#another-shape"]


def test_what_was_missed_is_told_from_the_first_to_the_last_and_why() -> None:
    for missed, when in (
        (MISSED, "Due from 2026-03-01 12:00:00 to 2026-03-01 12:04:00 UTC"),
        (replace(MISSED, count=1, last=STARTED), "Due at 2026-03-01 12:00:00 UTC"),
    ):
        (found,) = problems(seen_with(schedules=(schedule("nightly", missed=missed),)))
        assert found.detail == f"{when}, and nobody has started a run: the database was away."
        assert found.since == STARTED


def test_the_worst_comes_first() -> None:
    seen = SEEN._replace(
        status=replace(
            WELL,
            modules=(module("mail", "retrying", reason="locked"), module("gone", "failed_permanent", reason="no")),
            schedules=(schedule("nightly", last_late=61.0),),
        ),
        queues=waiting(61),
        failing=Failing((FAILURES,), (RETRIES,)),
    )
    assert [f"{p.severity} {p.kind}" for p in problems(seen)] == [
        "bad module_failed",
        "bad step_failing",
        "bad queue_stuck",
        "warn module_retrying",
        "warn schedule_late",
        "warn step_retrying",
    ]


def test_while_the_database_is_away_nothing_is_told_that_only_waits_for_it() -> None:
    seen = SEEN._replace(
        status=replace(
            WELL,
            outage=Outage(STARTED, "refused"),
            modules=(module("mail", "retrying", reason="refused", code="OperationalError"),),
            schedules=(schedule("nightly", error="refused"), schedule("hourly", starting=STARTED)),
        ),
        workers=(worker("mail", alive=False),),
        queues=waiting(600),
    )
    assert [problem.kind for problem in problems(seen)] == ["database_away"]


def test_no_more_are_told_than_anybody_reads() -> None:
    retries = tuple(replace(RETRIES, step=f"s{n}") for n in range(80))
    assert len(problems(SEEN._replace(failing=Failing(retries=retries)))) == 50
