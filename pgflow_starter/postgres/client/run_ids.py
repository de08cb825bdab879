"""Which ids the runs of a call get: the caller's own, those of its keys, or new ones."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID, uuid4

from pgflow_starter.core.keys import run_id_of
from pgflow_starter.postgres.client.life import uuid_of


def one_id(slug: str, run_id: UUID | str | None, key: str | None) -> UUID:
    """That of one run of the flow. Raises ValueError, TypeError."""
    if run_id is not None and key is not None:
        raise ValueError("give run_id= or key=, not both")
    if key is not None:
        return run_id_of(slug, key)
    return uuid4() if run_id is None else uuid_of(run_id)


def many_ids(
    slug: str, count: int, run_ids: Iterable[UUID | str] | None, keys: Iterable[str] | None
) -> tuple[list[UUID], list[int]]:
    """Those for so many inputs, and the order in which to start them. Raises ValueError, TypeError."""
    if run_ids is not None and keys is not None:
        raise ValueError("give run_ids= or keys=, not both")
    if isinstance(keys, str):
        raise TypeError(f"keys must be strings, one for each input, got one string {keys!r}")
    if keys is not None:
        chosen = [run_id_of(slug, key) for key in keys]
        if len(chosen) != count:
            raise ValueError(f"keys must be as many as inputs, got {len(chosen)} for {count} inputs")
    elif run_ids is not None:
        chosen = [uuid_of(run_id) for run_id in run_ids]
        if len(chosen) != count or len(set(chosen)) != len(chosen):
            msg = f"run_ids must be as many as inputs and all different, got {len(chosen)} for {count} inputs"
            raise ValueError(msg)
    else:
        return [uuid4() for _ in range(count)], list(range(count))
    # Given ids in one order, whatever theirs: calls that start the same runs wait for each other, not in a circle.
    return chosen, sorted(range(count), key=chosen.__getitem__)
