"""Handlers that are `async def`, which wait for a test."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import pgflow_starter as pgflow

WAIT = 30.0


def told(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if words in r.getMessage()]


class Waits:
    """A coroutine's wait for a thread's event, without a thread of its own, and what ended it."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.cancelled: list[Any] = []
        self.go = threading.Event()

    async def wait(self, message: Any, ctx: pgflow.TaskContext) -> Any:
        self.begun.append(message)
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.cancelled.append((message, ctx.cancelled.is_set()))
            raise
        return message
