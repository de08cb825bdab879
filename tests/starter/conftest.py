"""What the tests of starters watch their workers by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The queues that were looked into so far, or claimed from."""
    queues: set[str] = set()
    look, claim = PostgresTaskStore.look, PostgresTaskStore.claim

    def looking(store: PostgresTaskStore, workers: Sequence[tuple[UUID, str]]) -> Sequence[float | None]:
        seen = look(store, workers)
        queues.update(queue for _, queue in workers)
        return seen

    def claiming(store: PostgresTaskStore, definition: FlowDefinition, *rest: Any) -> Any:
        claimed = claim(store, definition, *rest)
        queues.add(definition.slug)
        return claimed

    monkeypatch.setattr(PostgresTaskStore, "look", looking)
    monkeypatch.setattr(PostgresTaskStore, "claim", claiming)
    return queues
