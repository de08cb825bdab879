"""`JsonReady`: snapshots as data that `json.dumps` takes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


def json_ready(value: Any) -> Any:
    """Dataclasses and named tuples as dicts, other tuples as lists, times in ISO 8601, enums and UUIDs as text.

    All else stays as it is.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, StrEnum | UUID):
        return str(value)
    if hasattr(value, "_asdict"):
        return {name: json_ready(v) for name, v in value._asdict().items()}
    if isinstance(value, tuple):
        return [json_ready(v) for v in value]
    if is_dataclass(value):
        return {f.name: json_ready(getattr(value, f.name)) for f in fields(value)}
    return value


class JsonReady:
    """A dataclass that tells itself."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data; times in ISO 8601."""
        data: dict[str, Any] = json_ready(self)
        return data
