"""`GatedConnection`: a pool's connection that is made only while its pool is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import psycopg


class GatedConnection(psycopg.Connection[tuple[object, ...]]):
    """For psycopg_pool, which connects by itself and cannot be told to leave it."""

    @classmethod
    def connect(cls, conninfo: str = "", *, wanted: Callable[[], bool] = lambda: True, **kwargs: Any) -> Self:  # type: ignore[override]
        """As psycopg's. Raises OperationalError at once where no connection is `wanted`."""
        if not wanted():
            msg = "the pool connects no more"
            raise psycopg.OperationalError(msg)
        return super().connect(conninfo, **kwargs)
