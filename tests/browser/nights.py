"""What the database says of the shop: on a calm night, on a bad one, and of one that has grown large."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from pgflow_starter.clock import SystemClock
from tests.browser.scenes import NAMES, ORDER

FAILED, RUNNING, MAPPED = (str(UUID(int=n << 96 | n)) for n in (0x3CE3E2B6, 0x7F2F6A52, 0x51AB90C1))
REFUSED = "BankClosed: the bank answered 503 three times"
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/flows.py", line 117, in charge
    return bank.charge(order["card"], amount=order["amount"], idempotency_key=f"{ctx.run_id}/{ctx.step_slug}")
  File "/srv/shop/bank.py", line 43, in charge
    raise BankClosed("the bank answered 503 three times")
shop.bank.BankClosed: the bank answered 503 three times"""


def ago(seconds: float) -> str:
    """A time."""
    return (SystemClock().now() - timedelta(seconds=seconds)).isoformat()


def answer(**data: Any) -> dict[str, Any]:
    """Data as of now, without an error."""
    return {"as_of": ago(0), "error": None, **data}


def problem(kind: str, title: str, severity: str = "bad", **more: Any) -> dict[str, Any]:
    """A problem that began 12 minutes ago."""
    said = {"detail": "", "since": ago(742), "next": "Look.", "link": None, "more": None}
    return {"kind": kind, "severity": severity, "title": title, **said, **more}


def problems() -> dict[str, Any]:
    """Failing runs, a queue that does not get on, a schedule that is late."""
    return answer(
        problems=[
            problem(
                "step_failing",
                "38 runs of process_order have failed in the last hour",
                detail=f"All of them in step charge. The last: {REFUSED}",
                next="Look at the newest failed run; when its cause is gone, run the failed ones again.",
                link={"flow": "process_order"},
                more="docs/troubleshooting.md#some-runs-fail",
            ),
            problem(
                "module_retrying",
                "nightly_report is not registered",
                detail="the queue nightly_report is locked by another session (pid 4711)",
                next="End the session 4711 or wait for it; then it is tried again by itself.",
                link={"module": "nightly_report"},
            ),
            problem(
                "queue_stuck",
                "The oldest message of send_email has waited for 12 min",
                "warn",
                detail="1,204 messages wait and 2 workers take 40 a minute.",
                next="Start another process, or raise max_concurrency of send_email.",
                link={"queue": "send_email"},
            ),
        ]
    )


def summary(run: str, flow: str, status: str, began: float, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """A run as the list tells it."""
    ended = None if status == "started" else ago(began - 8.2)
    return {
        "id": run,
        "flow_slug": flow,
        "status": status,
        "started_at": ago(began),
        "ended_at": ended,
        "steps": steps,
        "notes": [],
    }


def step(slug: str, status: str = "completed", *, tasks: int = 1, remaining: int = 0, **more: Any) -> dict[str, Any]:
    """A step of a run, as the list tells it."""
    return {"slug": slug, "status": status, "tasks": tasks, "remaining": remaining, "reason": None, **more}


def runs() -> dict[str, Any]:
    """Three kinds of runs."""
    work = [step("lines"), step("each_price", "started", tasks=12, remaining=5)]
    skipped = step("archive", "skipped", reason="condition_unmet")
    failure = [step("lines"), step("charge", "failed", remaining=1), skipped]
    return answer(
        runs=[
            summary(RUNNING, "process_order", "started", 14, work),
            summary(FAILED, "process_order", "failed", 95, failure),
            summary(MAPPED, "nightly_report", "completed", 4200, [step("collect"), step("each_region", tasks=600)]),
        ],
        next=None,
    )


def whole_step(slug: str, status: str, on: list[str], span: tuple[float, float] | None, **more: Any) -> dict[str, Any]:
    """A step of a run by itself; `span`: it began and ended so many seconds ago, the end 0 for never."""
    times = {
        "started_at": ago(span[0]) if span else None,
        "ended_at": ago(span[1]) if span and span[1] else None,
    }
    said = {"type": "map" if "each" in slug else "single", "tasks": 1, "remaining": 0, "reason": None, "error": None}
    return {"slug": slug, "depends_on": on, "status": status, **times, **said, **more}


def task(
    name: str, status: str, queued: float, began: float | None, ended: float | None, **more: Any
) -> dict[str, Any]:
    """A task that was queued, and began and ended its last attempt, so many seconds ago."""
    said = {"index": 0, "attempts": 1, "worker": str(UUID(int=7)), "visible_at": None, "error": None, "traceback": None}
    times = {
        "queued_at": ago(queued),
        "started_at": None if began is None else ago(began),
        "ended_at": None if ended is None else ago(ended),
    }
    return {"step": name, "status": status, **times, **said, **more}


def failed_run(**more: Any) -> dict[str, Any]:
    """A run whose charge failed after three attempts."""
    error = {"error": REFUSED, "traceback": TRACEBACK, "attempts": 3}
    run = {
        "id": FAILED,
        "flow_slug": "process_order",
        "status": "failed",
        "started_at": ago(95),
        "ended_at": ago(86.8),
        "error": REFUSED,
        "rerun_of": MAPPED,
        "trace_url": "https://traces.example/4bf92f",
        "actions": ["rerun"],
        "steps": [
            whole_step("lines", "completed", [], (95, 94)),
            whole_step("discount", "completed", [], (95, 94.5)),
            whole_step("each_price", "completed", ["lines"], (94, 92), tasks=3),
            whole_step("charge", "failed", ["each_price", "discount"], (92, 86.8), remaining=1, error=REFUSED),
            whole_step("gift", "skipped", ["lines"], None, reason="condition_unmet"),
            whole_step("archive", "created", ["charge"], None, tasks=None, remaining=None),
        ],
        "tasks": [
            task("lines", "completed", 95, 94.9, 94),
            task("discount", "completed", 95, 94.8, 94.5),
            task("each_price", "completed", 94, 93.9, 93, index=0),
            task("each_price", "completed", 94, 93.5, 92.5, index=1, attempts=2, error="TimeoutError: 60 s"),
            task("each_price", "completed", 94, 93.2, 92, index=2),
            task("charge", "failed", 92, 87.4, 86.8, **error),
        ],
    }
    return answer(run={**run, "more_tasks": 0, **more})


def running_run() -> dict[str, Any]:
    """A run at work: a map of 600 tasks, of which 500 are told."""
    done = [
        task("each_region", "completed", 60, 50 - i / 10, 45 - i / 10, index=i, attempts=1 + i % 2) for i in range(300)
    ]
    wrong = {"error": REFUSED, "traceback": TRACEBACK, "attempts": 2}
    failures = [task("each_region", "failed", 60, 18, 14, index=i, **wrong) for i in range(300, 320)]
    work = [task("each_region", "started", 60, 12, None, index=i) for i in range(320, 330)]
    rest = [task("each_region", "queued", 60, None, None, index=i, attempts=0) for i in range(330, 499)]
    first = task("collect", "completed", 70, 68, 61)
    run = {
        "id": RUNNING,
        "flow_slug": "nightly_report",
        "status": "started",
        "started_at": ago(70),
        "ended_at": None,
        "error": None,
        "rerun_of": None,
        "trace_url": None,
        "actions": ["cancel"],
        "steps": [
            whole_step("collect", "completed", [], (70, 61)),
            whole_step("each_region", "started", ["collect"], (60, 0), tasks=600, remaining=280),
            whole_step("publish", "created", ["each_region"], None, tasks=None, remaining=None),
        ],
        "tasks": [*failures, first, *done, *work, *rest],
        "more_tasks": 100,
    }
    return answer(run=run)


def queue(slug: str, waiting: int = 0, *, hidden: int = 0, oldest: float | None = None, bad: int = 0) -> dict[str, Any]:
    """A queue whose hour is known for fifty minutes."""
    known = range(50)
    history = {
        "waiting": [None] * 10 + [waiting * (i - 25) // 25 if i > 25 else i % 3 for i in known],
        "done": [None] * 10 + [(i * 7) % 23 + 4 for i in known],
        "failed": [None] * 10 + [bad if i > 35 and i % 3 == 0 else 0 for i in known],
    }
    return {
        "queue": slug,
        "flow_slug": slug,
        "waiting": waiting,
        "hidden": hidden,
        "oldest_age": oldest,
        "history": history,
    }


def queues() -> dict[str, Any]:
    """One that does not get on, one that fails, two at ease."""
    listed = [
        queue("send_email", 1204, hidden=20, oldest=742),
        queue("process_order", 3, hidden=7, oldest=0.4, bad=4),
        *(queue(n) for n in NAMES[2:]),
    ]
    return answer(every=60, queues=listed)


def worker(flow: str, number: int, *, alive: bool = True, here: bool = True, told: bool = False) -> dict[str, Any]:
    """A worker of some process."""
    return {
        "worker_id": str(UUID(int=number << 96 | number)),
        "flow_slug": flow,
        "function_name": flow,
        "started_at": ago(11000),
        "last_heartbeat_at": ago(4 if alive else 190),
        "deprecated_at": ago(300) if told else None,
        "alive": alive,
        "here": here,
    }


def workers() -> dict[str, Any]:
    """Two processes, one worker dead, one told to stop."""
    here = [worker(name, 0x10 + i) for i, name in enumerate(NAMES)]
    there = [worker(name, 0x20 + i, here=False) for i, name in enumerate(NAMES[:2])]
    return answer(
        workers=[
            *here,
            *there,
            worker("send_email", 0x31, alive=False, here=False),
            worker("restock", 0x32, here=False, told=True),
        ]
    )


def calm() -> dict[str, Any]:
    """A night on which nothing is wrong."""
    four = [queue(n) for n in NAMES]
    here = [worker(name, 0x10 + i) for i, name in enumerate(NAMES)]
    return {"problems": answer(problems=[]), "queues": answer(every=60, queues=four), "workers": answer(workers=here)}


def bad() -> dict[str, Any]:
    """One on which much is."""
    return {
        "problems": problems(),
        "runs": runs(),
        f"runs/{FAILED}": failed_run(),
        f"runs/{RUNNING}": running_run(),
        "queues": queues(),
        "workers": workers(),
    }


def large(names: list[str]) -> dict[str, Any]:
    """A shop of so many flows."""
    listed = [summary(str(UUID(int=i + 1)), names[i], "completed", i, [step(s) for s in ORDER]) for i in range(20)]
    return {
        "problems": answer(
            problems=[problem("module_retrying", f"{n} is not registered", link={"module": n}) for n in names[::9]][:50]
        ),
        "runs": answer(runs=listed, next="c20"),
        "queues": answer(every=60, queues=[queue(n, i, oldest=i or None) for i, n in enumerate(names)]),
        "workers": answer(workers=[worker(n, i * 2 + k, here=not k) for i, n in enumerate(names) for k in range(2)]),
    }
