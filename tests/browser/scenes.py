"""What the page is shown in tests: a shop on a good day and on bad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from pgflow_starter import Outage, Phase, Trouble, TroubleKind, TroubleScope
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.state import ModuleType
from tests.web.stage import Stage, flow, module, run, schedule, tree, worker

NAMES = ("process_order", "send_email", "restock", "nightly_report")
ORDER: dict[str, list[str]] = {
    "lines": [],
    "discount": [],
    "each_price": ["lines"],
    "invoice": ["each_price", "discount"],
    "archive": ["invoice"],
    "notify_customer": ["invoice"],
}
REFUSED = 'connection to server at "db.internal" (10.0.3.7), port 5432 failed: Connection refused'


def healthy() -> Stage:
    """All is registered, and works."""
    done = ("completed", 1, 0)
    return Stage(
        started_at=SystemClock().now() - timedelta(hours=3, minutes=12),
        modules=tuple(module(n, type=ModuleType.JOB if n in NAMES[1:3] else ModuleType.FLOW) for n in NAMES),
        flows=(
            flow("process_order", ORDER),
            flow("nightly_report", {"collect": [], "each_region": ["collect"], "publish": ["each_region"]}),
            flow("send_email", {"send_email": []}, "job"),
            flow("restock", {"restock": []}, "job"),
        ),
        workers_=(
            worker("process_order", running=7, completed=12840, failed=3),
            worker("send_email", running=1, completed=90412),
            worker("restock", completed=77),
            worker("nightly_report", slots=4, completed=3),
        ),
        children=tree(NAMES, restarts=1),
        schedules=(schedule("nightly_report"), schedule("restock", cron="0 */15 * * * *", timezone="UTC")),
        runs=(
            run(4, "process_order", "started", {
                "lines": done, "discount": done, "each_price": ("started", 12, 5), "invoice": ("created", None, None),
            }),
            run(9, "send_email", "completed", {"send_email": done}),
            run(14, "process_order", "completed", dict.fromkeys(ORDER, done)),
            run(71, "restock", "failed", {"restock": ("failed", 1, 1)}),
        ),
    )  # fmt: skip


def retrying() -> Stage:
    """A queue is locked, a worker was lost."""
    stage = healthy()
    order, email, restock, _ = stage.modules
    locked = "the queue nightly_report is locked by another session (pid 4711): end that session or wait"
    lost = module("restock", "retrying", reason="the worker died and is started again: MemoryError", code="WorkerLost")
    stage.modules = (
        order,
        email,
        replace(lost, type=restock.type, phase=Phase.WORKER, next_attempt_at=None),
        module("nightly_report", "retrying", reason=locked),
    )
    stage.workers_ = tuple(replace(w, alive=w.slug != "restock", unwritten=2) for w in stage.workers_)
    return stage


def troubled() -> Stage:
    """A right was taken away, and somebody put messages of his own into a queue."""
    stage = healthy()
    began = SystemClock().now() - timedelta(minutes=2)
    denied = (
        "outcomes of 12 runs cannot be written, first of step send_email of run 7f2f6a52-6a2c-4c43-9d0b-0b6a3a8f3a55:"
        " permission denied for table a_send_email; `pgflow-starter db grant ROLE` prints what a role needs"
    )
    foreign = "messages in pgmq.q_restock belong to no task that can be started: they are put aside"
    order, email, *others = stage.modules
    stuck = module("send_email", "retrying", reason=denied, code="42501")
    stage.modules = (order, replace(stuck, type=email.type, phase=Phase.WORKER, next_attempt_at=None), *others)
    troubles = {
        "send_email": Trouble(TroubleKind.OUTCOMES_REFUSED, denied, began, "42501", TroubleScope.ALL),
        "restock": Trouble(TroubleKind.UNSTARTED, foreign, began, "", TroubleScope.SOME),
    }
    stage.workers_ = tuple(replace(w, trouble=troubles.get(w.slug)) for w in stage.workers_)
    stage.schedules = (stage.schedules[0], schedule("restock", error="permission denied for function start_flow"))
    return stage


def failed() -> Stage:
    """Two modules that somebody has to correct."""
    stage = healthy()
    shape = (
        "the flow nightly_report in the database has other steps than the code (only there: upload; only here: "
        "publish): give the flow another slug, or delete it from the database when no run of it is open"
    )
    path = "shop.flows has no attribute 'loyalty': correct the dotted path"
    stage.modules = (
        *stage.modules[:3],
        module("nightly_report", "failed_permanent", reason=shape, code="ShapeMismatchError"),
        module("shop.flows:loyalty", "failed_permanent", slug=None, reason=path, code="DefinitionError"),
    )
    stage.workers_ = stage.workers_[:3]
    return stage


def outage() -> Stage:
    """The database was away from the beginning."""
    stage = healthy()
    reason = f"the database cannot be reached: {REFUSED}; check that it runs, and the host and port given"
    stage.outage = Outage(SystemClock().now() - timedelta(minutes=4, seconds=12), REFUSED)
    stage.modules = tuple(module(m.module, "retrying", reason=reason, code="08001") for m in stage.modules)
    stage.workers_ = ()
    return stage


def many(count: int = 200) -> Stage:
    """A large one."""
    names = [f"module_{i:03}" for i in range(count)]
    why = "the queue is locked by another session (pid 12): end that session or wait"
    return Stage(
        started_at=SystemClock().now(),
        modules=tuple(module(n, "retrying", reason=why) if i % 9 == 0 else module(n) for i, n in enumerate(names)),
        workers_=tuple(worker(n, running=i % 10, completed=i) for i, n in enumerate(names)),
        children=tree(names),
        flows=tuple(flow(n, ORDER) for n in names),
    )


SCENES: dict[str, Callable[[], Stage]] = {
    "healthy": healthy,
    "retrying": retrying,
    "troubled": troubled,
    "failed": failed,
    "outage": outage,
    "nothing": Stage,
}
