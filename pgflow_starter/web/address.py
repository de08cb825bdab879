"""Addresses to listen on: `HOST:PORT`."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from pgflow_starter.errors import SetupError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name, IPv4 or IPv6 address) and a port, 0 for any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(given: str) -> Address:
    """The address in `HOST:PORT`, `[IPv6]:PORT`, or `:PORT` and `PORT` for loopback. Raises ValueError."""
    host, _, port = given.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    elif ":" in host:
        host = ""
        port = ""  # an IPv6 address without brackets: where it ends is anybody's guess
    if not (port.isascii() and port.isdigit() and int(port) <= 65535) or (bracketed and not host):
        msg = f"an address to listen on is HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8080, got {given!r}"
        raise ValueError(msg)
    return Address(host or LOOPBACK, int(port))


def bind(address: Address) -> socket.socket:
    """A socket that listens there. May look a name up. Raises SetupError, naming the address and the remedy."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost has several; a client that is told of it tries IPv4 at least.
        family, *_, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        return socket.create_server(where, family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        why = _why(error)
        msg = f"nothing can listen on {address}: {why}; choose another address or port (0 takes any free one)"
        raise SetupError(msg) from None


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError) or error.errno is None:
        return str(getattr(error, "strerror", None) or error)
    return os.strerror(error.errno)
