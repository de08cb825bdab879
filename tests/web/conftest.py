"""No thread of a server is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually


def servers_threads() -> set[threading.Thread]:
    """Those that waitress has started."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("waitress")}


@pytest.fixture(autouse=True)
def no_server_left_behind() -> Iterator[None]:
    """Fails the test after which a thread of a server is still there."""
    before = servers_threads()
    yield
    eventually(lambda: servers_threads() <= before, 5, "the end of the server's threads")
