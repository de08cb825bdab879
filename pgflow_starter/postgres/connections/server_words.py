"""What a server says before libpq listens: the SQLSTATE in what has come and was not read yet."""

from __future__ import annotations

import os
import re
import socket

PEEKED = 4096
"""Bytes that are looked at."""

_SQLSTATE = re.compile(rb"C([0-9A-Z]{5})")


def peek(number: int) -> bytes:
    """What is about to be read from a socket."""
    try:
        with socket.socket(fileno=os.dup(number)) as copy:
            return copy.recv(PEEKED, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""


def sqlstate_in(data: bytes) -> str | None:
    """That of the first ErrorResponse among whole messages of PostgreSQL's protocol; None for whatever else."""
    while len(data) > 5:
        kind, end = data[:1], 1 + int.from_bytes(data[1:5])
        if not 5 <= end <= len(data):
            return None
        if kind == b"E":
            found = next((m for part in data[5:end].split(b"\0") if (m := _SQLSTATE.fullmatch(part))), None)
            return found and found[1].decode()
        data = data[end:]
    return None
