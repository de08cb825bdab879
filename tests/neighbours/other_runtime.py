"""`OtherWorker`: a worker of another runtime, as the database sees it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg

from pgflow_starter.postgres.stores.worker_rows import MARK

Admin = psycopg.Connection[tuple[Any, ...]]


class OtherWorker:
    """Of one queue. It sends a heartbeat before it claims and none while it works; `ours`: marked as one of ours."""

    def __init__(self, admin: Admin, queue: str, *, function: str = "edge", ours: bool = False) -> None:
        self.worker_id = uuid4()
        self._admin = admin
        self._queue = queue
        admin.execute(
            "insert into pgflow.workers (worker_id, queue_name, function_name) values (%s, %s, %s)",
            (self.worker_id, queue, f"{MARK}{queue}" if ours else function),
        )

    def claim(self) -> list[tuple[UUID, str, int]]:
        """Start all tasks that are visible."""
        return self._admin.execute(
            "select run_id, step_slug, task_index from pgflow.start_tasks("
            "%(queue)s, array(select msg_id from pgmq.read(%(queue)s, 600, 100)), %(worker)s)",
            {"queue": self._queue, "worker": self.worker_id},
        ).fetchall()

    def complete(self, tasks: list[tuple[UUID, str, int]], output: str = '"theirs"') -> None:
        """They are done."""
        for task in tasks:
            self._admin.execute("select count(*) from pgflow.complete_task(%s, %s, %s, %s::jsonb)", (*task, output))

    def worked_for(self, seconds: float) -> None:
        """It has been at its tasks for so long, in silence."""
        self._admin.execute(
            "update pgflow.workers set last_heartbeat_at = now() - make_interval(secs => %s) where worker_id = %s",
            (seconds, self.worker_id),
        )
        self._admin.execute(
            "update pgflow.step_tasks set queued_at = queued_at - make_interval(secs => %(s)s),"
            " started_at = now() - make_interval(secs => %(s)s) where last_worker_id = %(w)s and status = 'started'",
            {"s": seconds, "w": self.worker_id},
        )
