"""Django's connections around a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import connections, reset_queries


@contextmanager
def connections_closed(ctx: Any) -> Iterator[None]:
    """For the setting `middleware`: no handler meets a connection that one before it has left, nor leaves one.

    Each would begin with what the server has ended meanwhile; and a thread that ends does not close its connections. So
    they are closed whatever CONN_MAX_AGE says; with `OPTIONS["pool"]` they go back into Django's pool. Coroutines have
    the ORM work on one thread for all of them, which closes its connections before anything that they ask of it.
    """
    _close_in_time()
    try:
        yield
    finally:
        _close_in_time()


def _close_in_time() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _close()
    else:
        SyncToAsync.single_thread_executor.submit(_close)


def _close() -> None:
    reset_queries()
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # a test's own, around run_flow
            connection.close()
