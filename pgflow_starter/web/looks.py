"""`Looks`: what the page shows of the database, as JSON-ready data."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from pgflow_starter.clock import Clock
from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.core.runs import FINISHED
from pgflow_starter.core.views import DoneBefore, Failing, FlowQueue, RunsPage, RunsWanted, RunView, WorkerRow
from pgflow_starter.errors import PgflowError
from pgflow_starter.web.answers import BUSY, PATIENCE, Answer, Answers
from pgflow_starter.web.history import EVERY, SLOTS, History
from pgflow_starter.web.problems.found import problems
from pgflow_starter.web.problems.problem import Seen
from pgflow_starter.web.source import Source
from pgflow_starter.web.words import place_text

V = TypeVar("V")

RUNS_KEPT = 8
"""Single runs that are kept with their tasks; they may be large."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown, and may be done: a link to a run's trace, a template with `{trace_id}` or `{run_id}`; inputs and
    outputs; actions."""

    trace_url: str | None = None
    payloads: bool = False
    actions: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a template that leads nowhere."""
        url = self.trace_url
        if url is None:
            return
        if not url.startswith(("http://", "https://", "/")):
            raise ValueError(f"trace_url must begin with http://, https:// or /, got {url!r}")
        if "{trace_id}" not in url and "{run_id}" not in url:
            raise ValueError(f"trace_url must have {{trace_id}} or {{run_id}} in it, got {url!r}")

    def trace_of(self, run: RunView) -> str | None:
        """The link; None where there is no template, or no trace is known and the template wants it."""
        if self.trace_url is None or (run.trace_id is None and "{trace_id}" in self.trace_url):
            return None
        return self.trace_url.replace("{trace_id}", run.trace_id or "").replace("{run_id}", str(run.id))

    def actions_of(self, run: RunView) -> list[str]:
        """What may be done to it."""
        if not self.actions:
            return []
        return ["rerun"] if run.status in FINISHED else ["cancel"]


class _Queues(NamedTuple):
    """As `/queues` tells of them, how they stand, and how many messages of each were done lately."""

    told: list[dict[str, Any]]
    depths: Sequence[FlowQueue]
    done: dict[str, int]


class Looks:
    """Asks the source, remembers its answers and tells them. Waits as `Answers` does. Thread-safe."""

    def __init__(self, source: Source, clock: Clock, shown: Shown) -> None:
        self._source = source
        self._clock = clock
        self._shown = shown
        self._history = History()
        turn = threading.Lock()
        self._pages: Answers[RunsWanted, RunsPage] = Answers(
            source, clock, turn, lambda wanted: source.views.runs(wanted, patience=PATIENCE)
        )
        self._runs: Answers[UUID, RunView | None] = Answers(
            source,
            clock,
            turn,
            lambda run_id: source.views.run(run_id, payloads=shown.payloads, patience=PATIENCE),
            kept=RUNS_KEPT,
        )
        self._queues: Answers[None, _Queues] = Answers(source, clock, turn, lambda _: self._look_at_queues())
        self._workers: Answers[None, Sequence[WorkerRow]] = Answers(
            source, clock, turn, lambda _: source.views.workers(patience=PATIENCE)
        )
        self._failing: Answers[None, Failing] = Answers(
            source, clock, turn, lambda _: source.views.failing(patience=PATIENCE)
        )

    def runs(self, wanted: RunsWanted) -> dict[str, Any]:
        """As `runs.schema.json` says."""
        answer = self._pages.current(wanted)
        page = answer.value or RunsPage()
        return {**answer.head(), "runs": json_ready(page.runs), "next": place_text(page.next)}

    def run(self, run_id: UUID) -> dict[str, Any] | None:
        """As `run.schema.json` says; None where there is no such run."""
        answer = self._runs.current(run_id)
        if answer.value is None and answer.as_of is not None and answer.error is None:
            return None
        return {**answer.head(), "run": None if answer.value is None else self._run(answer.value)}

    def queues(self) -> dict[str, Any]:
        """As `queues.schema.json` says."""
        answer = self._queues.current(None)
        return {**answer.head(), "every": EVERY, "queues": answer.value.told if answer.value else []}

    def workers(self) -> dict[str, Any]:
        """As `workers.schema.json` says."""
        answer: Answer[Sequence[WorkerRow]] = self._workers.current(None)
        here = {worker.worker_id for worker in self._source.workers()}
        told = [{**json_ready(worker), "here": worker.worker_id in here} for worker in answer.value or ()]
        return {**answer.head(), "workers": told}

    def problems(self) -> dict[str, Any]:
        """As `problems.schema.json` says."""
        status, workers = self._source.status(), self._source.workers()
        failing, queues, rows = self._failing.current(None), self._queues.current(None), self._workers.current(None)
        error = failing.error or queues.error or rows.error
        living = _known(rows)
        waiting = _known(queues) if living is not None else None  # else nobody can tell whether a worker lives
        blind = [answer for answer in (failing, queues, rows) if answer.error not in (None, BUSY)]
        seen = Seen(
            self._clock.now(),
            status,
            workers,
            () if waiting is None else waiting.depths,
            living or (),
            _known(failing) or Failing(),
            blind[0].error if blind else None,
            (blind[0].as_of if blind else None) or status.started_at,
            queues.as_of,
            done={} if waiting is None else waiting.done,
            sees_runs=failing not in blind,
            sees_queues=queues not in blind and rows not in blind,
        )
        return {**replace(failing, error=error).head(), "problems": json_ready(problems(seen))}

    def outdate(self) -> None:
        """Somebody has changed something: whoever asks next is told of it. Never waits."""
        for answers in (self._pages, self._runs, self._queues, self._workers, self._failing):
            answers.outdate()

    def _run(self, run: RunView) -> dict[str, Any]:
        shown = self._shown
        told = {
            "id": str(run.id),
            "flow_slug": run.flow_slug,
            "status": run.status,
            "started_at": json_ready(run.started_at),
            "ended_at": json_ready(run.ended_at),
            "error": run.error,
            "rerun_of": json_ready(run.rerun_of),
            "trace_url": shown.trace_of(run),
            "actions": shown.actions_of(run),
            "steps": json_ready(run.steps),
            "tasks": json_ready(run.tasks),
            "more_tasks": run.more_tasks,
        }
        return {**told, "payloads": {"input": run.input, "output": run.output}} if shown.payloads else told

    def _look_at_queues(self) -> _Queues:
        """One at a time: who asks has the turn."""
        found = self._source.views.queues(patience=PATIENCE)
        failed: Counter[tuple[str, str | None]] = Counter()
        for worker in self._source.workers():
            failed.update({(worker.slug, step): n for step, n in worker.failed_by_step.items()})
            failed[worker.slug, None] += worker.failed
        if not self._history.note(found, failed, self._clock.monotonic()):
            self._history.recall(self._done_before(found))
        oldest_first = sorted(found, key=lambda queue: (-(queue.depth.oldest_age or 0), queue.depth.queue))
        told = [
            {
                **queue.depth._asdict(),
                "flow_slug": queue.flow_slug,
                "history": self._history.of(queue.depth.queue),
            }
            for queue in oldest_first
        ]
        done = {queue.depth.queue: self._history.done_lately(queue.depth.queue) for queue in found}
        return _Queues(told, found, done)

    def _done_before(self, queues: Sequence[FlowQueue]) -> Sequence[DoneBefore]:
        """Of the busiest; nothing where that cannot be seen."""
        busiest = sorted((queue for queue in queues if queue.archived), key=lambda queue: -queue.archived)
        names = [queue.depth.queue for queue in busiest]
        try:
            return self._source.views.done_before(names, every=EVERY, slots=SLOTS, patience=PATIENCE) if names else ()
        except PgflowError:
            return ()


def _known(answer: Answer[V]) -> V | None:
    """What may be judged by: not what was the case before the database fell silent."""
    return answer.value if answer.error in (None, BUSY) else None
