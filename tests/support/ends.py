"""`End`: one side of a connection by way of the proxy."""

from __future__ import annotations

import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK = 65536
ENOUGH = 262_144
"""Bytes on their way to one side from which on nothing more is read from the other."""


@dataclass(eq=False, slots=True)
class End:
    """One socket of a pair, and what is on its way to it: (when to hand it over, bytes; none of them: the end)."""

    socket: socket.socket
    peer: End | None = None
    server: bool = False
    """Whether the server is there, not a client."""
    swallow: bool = False
    outgoing: deque[tuple[float, bytes]] = field(default_factory=deque)
    queued: int = 0
    """Bytes in `outgoing`."""
    full: bool = False
    """Whether the socket takes no more for now."""
    ended: bool = False
    """Whether it has sent its last."""
    attended: int = 0
    """The selector's events that are waited for."""

    @property
    def reads(self) -> bool:
        """Whether it is to be read: not while there is enough on its way to its peer."""
        return not self.ended and (self.swallow or self.peer is None or self.peer.queued < ENOUGH)

    @property
    def ends_now(self) -> bool:
        """Whether the next that is on its way to it is the end."""
        return not self.outgoing[0][1]

    def give(self, due: float, data: bytes) -> None:
        """Something is on its way to it."""
        self.outgoing.append((due, data))
        self.queued += len(data)

    def hand_over(self, most: int | None) -> int:
        """Send what is first on its way, `most` bytes of it; how many were sent. Raises OSError."""
        due, data = self.outgoing.popleft()
        piece = data[:most]
        try:
            sent = self.socket.send(piece)
        except BlockingIOError:
            sent = 0
        self.queued -= sent
        self.full = sent < len(piece)
        if sent < len(data):
            self.outgoing.appendleft((due, data[sent:]))
        return sent

    def forget(self) -> None:
        """Lose what is on its way to it, and swallow whatever it sends."""
        self.swallow = True
        self.outgoing.clear()
        self.queued, self.full = 0, False


def reset(connection: socket.socket) -> None:
    """Close with RST, as a machine does that knows nothing of the connection."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
