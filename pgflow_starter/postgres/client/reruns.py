"""Runs that have ended are done again: new runs of their flows, with what they were given, as it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4, uuid5

from pgflow_starter.core.runs import FINISHED
from pgflow_starter.errors import OutcomeUnknownError, PgflowError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.run import Run, RunReader
from pgflow_starter.postgres.client.starts import Starts
from pgflow_starter.postgres.client.steps import stored_json

BATCH = 100
"""Runs that are read, and those of one flow started, at a time."""

GIVEN = "select r.run_id, r.flow_slug, r.status, r.input::text from pgflow.runs r where r.run_id = any(%s::uuid[])"
"""What runs were given, as text: Python's numbers are not the database's."""


class Reruns:
    """Of one client. Blocks on I/O; thread-safe."""

    def __init__(self, calls: Calls, starts: Starts) -> None:
        self._calls = calls
        self._starts = starts

    def again(self, row: Any, client: RunReader) -> Run:
        """A new run with what that one was given, a row of `GIVEN`. Raises PgflowError where it has not ended."""
        run_id, slug, status, _ = row
        if status not in FINISHED:
            msg = f"run {run_id} of flow {slug!r} has not ended, it is {status}: wait for it, or cancel it, first"
            raise PgflowError(msg)
        (run,) = self._start(slug, [row], uuid4(), client)
        return run

    def all_again(self, run_ids: Sequence[UUID], client: RunReader) -> list[Run]:
        """As `again` for each of those that are there and have ended, in that order.

        Raises PgflowError, with a note of how many were started before it.
        """
        call, started = uuid4(), dict[UUID, Run]()
        try:
            for some in (run_ids[n : n + BATCH] for n in range(0, len(run_ids), BATCH)):
                for slug, rows in _by_flow(self._given(some)):
                    runs = self._start(slug, rows, call, client)
                    started.update((row[0], run) for row, run in zip(rows, runs, strict=True))
        except PgflowError as error:
            error.add_note(f"{len(started)} of {len(run_ids)} runs were started again before")
            raise
        return [started[run_id] for run_id in run_ids if run_id in started]

    def _given(self, run_ids: Sequence[UUID]) -> list[Any]:
        ids = [str(run_id) for run_id in run_ids]
        rows: list[Any] = self._calls.off_main(
            lambda: self._calls.resending(lambda conn: conn.execute(GIVEN, (ids,)).fetchall())
        )
        return [row for row in rows if row[2] in FINISHED]

    def _start(self, slug: str, rows: Sequence[Any], call: UUID, client: RunReader) -> list[Run]:
        """One for each, of ids that are the same whenever it is said in the same call."""
        for run_id, _, _, text in rows:  # before anything is started: its handler could not read it either
            stored_json(text, f"the input of run {run_id}")
        old = [row[0] for row in rows]
        new = [uuid5(call, str(run_id)) for run_id in old]
        try:
            return self._starts.start(client, slug, None, [row[3] for row in rows], new, rerun_of=old)
        except OutcomeUnknownError as error:
            text = f"{error.__cause__ or error}; it may be carried out all the same: ask for the runs in error.run_ids"
            raise error.saying(text) from error


def _by_flow(rows: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    flows: dict[str, list[Any]] = {}
    for row in rows:
        flows.setdefault(row[1], []).append(row)
    yield from flows.items()
