"""`Asks`: what was asked of the starters' actors by way of their proxies, and what came of it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pykka

import pgflow_starter as pgflow

ANSWER_WITHIN = 10.0


class Asks:
    """Thread-safe. An ask is answered, is not within `ANSWER_WITHIN` seconds, or raises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.made = self.unanswered = 0
        self.raised: Counter[str] = Counter()

    def answer(self, future: pykka.Future[Any]) -> None:
        """Wait for the answer and count it."""
        unanswered, raised = False, ""
        try:
            future.get(timeout=ANSWER_WITHIN)
        except pykka.Timeout:
            unanswered = True
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
        with self._lock:
            self.made += 1
            self.unanswered += unanswered
            if raised:
                self.raised[raised] += 1


def everything(starter: pgflow.Starter) -> list[pykka.Future[Any]]:
    """One ask of each kind that changes nothing."""
    proxy = starter.proxy()
    return [proxy.status(), proxy.ready(), proxy.healthy(), proxy.module_status("chaos_quick"), proxy.which_children()]
