"""The logger of one task's handler: its records say which task, as fields."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

logger = logging.getLogger("pgflow_starter.handlers")


class HandlerLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the task's fields to the `extra` of each call: the library's own, before Python 3.13, drops that."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """As `logging` asks for it."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


def handler_log(run_id: UUID, flow_slug: str, step_slug: str, task_index: int, attempt: int) -> HandlerLog:
    """A logger for one task's handler: its records say which task, as fields."""
    fields = {
        "pgflow_run_id": str(run_id),
        "pgflow_slug": flow_slug,
        "pgflow_step": step_slug,
        "pgflow_task_index": task_index,
        "pgflow_attempt": attempt,
    }
    return HandlerLog(logger, fields)
