"""What the tests of starters watch their workers by, and how a starter gives up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pykka
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.supervision import SupervisorFlags
from tests.supervision.world import Journal
from tests.support.waiting import eventually


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


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def give_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the root of the one starter that there is give up: it may not restart anybody, and somebody ends."""
    monkeypatch.setattr("pgflow_starter.starter.tree.ROOT_FLAGS", SupervisorFlags(max_restarts=0))

    def crash() -> None:
        eventually(lambda: pykka.ActorRegistry.get_by_class(pgflow.StarterActor))[0].stop()

    return crash
