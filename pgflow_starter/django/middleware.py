"""Django's connections around a handler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, reset_queries


@contextmanager
def connections_closed(ctx: Any) -> Iterator[None]:
    """For the setting `middleware`: no handler meets a connection that one before it has left, nor leaves one.

    Each would begin with what the server has ended meanwhile; and a thread that ends does not close its connections. So
    they are closed whatever CONN_MAX_AGE says; with `OPTIONS["pool"]` they go back into Django's pool.
    """
    _close()
    reset_queries()
    try:
        yield
    finally:
        _close()


def _close() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # a test's own, around run_flow
            connection.close()
