"""A starter that says over HTTP what a test wants it to say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass, ModuleError, ModuleState, ModuleStatus, ModuleType, StarterStatus
from tests.support.stub_web import Reply

PROGRAM = ("-m", "pgflow_starter")
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ERROR = ModuleError(ErrorClass.TRANSIENT, Phase.NOTIFY_DB, "the queue is [locked]", "55P03", NOW)
DONE = ModuleState("order", "order", ModuleType.FLOW, ModuleStatus.SUCCEEDED, 2, None, None, None, NOW)
RETRYING = replace(
    DONE, status=ModuleStatus.RETRYING, last_error=ERROR, next_attempt_at=NOW + timedelta(seconds=7), attempts=3
)
WORKER = {
    "slug": "order",
    "worker_id": "5b0d5f7e-0000-4000-8000-000000000000",
    "alive": True,
    "lost": False,
    "draining": False,
    "slots": 10,
    "running": 3,
    "completed": 1234,
    "failed": 5,
    "unwritten": 0,
    "abandoned": 0,
}
WELL = StarterStatus(True, True, NOW - timedelta(minutes=3), NOW, (DONE,))
UNWELL = replace(WELL, ready=False, modules=(DONE, replace(RETRYING, module="press")))


def answer(status: StarterStatus = WELL, **more: Any) -> bytes:
    """The JSON of a starter's `/status`."""
    told = {"now": NOW.isoformat(), **status.to_dict(), "workers": [WORKER], "children": [], "flows": [], **more}
    return json.dumps(told).encode()


class Starter:
    """What the stub says for it."""

    reply: Reply = ("200 OK", answer())

    def __call__(self) -> Reply:
        return self.reply
