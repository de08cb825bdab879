"""`Threaded`: a part of the starter that has a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Died = Callable[[BaseException], None]


class Threaded(Protocol):
    """A part of the starter that has a thread of its own and is no actor. Thread-safe."""

    def revive(self, died: Died) -> None:
        """Start the thread, where there is work for one; `died` is told when it ends without having been closed."""
