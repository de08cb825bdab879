"""The id of the run that a key stands for. Any language makes the same: uuid5 twice, as here."""

from __future__ import annotations

from uuid import NAMESPACE_URL, UUID, uuid5

from pgflow_starter.core.modules import FlowModule, definition_of


def run_id_of(flow: FlowModule | str, key: str) -> UUID:
    """The id that `key=` gives to a run of the flow or job, an object or a slug.

    Raises TypeError for a key that is no string, ValueError for one that is empty or holds a lone surrogate,
    DefinitionError for what is no flow.
    """
    if not isinstance(key, str):
        shown = f" {key!r}" if isinstance(key, int | float | UUID) else ""  # all else may be the message, or hold it
        raise TypeError(f"a key must be a string, got {type(key).__name__}{shown}")
    if not key:
        raise ValueError("a key must not be empty")
    slug = flow if isinstance(flow, str) else definition_of(flow).slug
    try:
        return uuid5(uuid5(NAMESPACE_URL, f"pgflow:{slug}"), key)
    except UnicodeEncodeError:
        raise ValueError(f"a key must be text that UTF-8 can express, got {key!r}") from None
