"""Hosts: which of them mean this machine, and which are answered.

A page of another site can have its own name lead to 127.0.0.1, and read as its own what answers there: the browser
still says that name as the Host. So what listens on a loopback address answers for loopback Hosts only. A WSGI server
says in SERVER_NAME where it listens, and `serve` does; one that says anything else there has every Host answered, as on
an address that others can reach, where names are for those in front to judge.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

REFUSED = (
    "this listens on a loopback address, and answers only requests whose Host is localhost, 127.0.0.1 or [::1]: "
    "a proxy in front of it has to send one of these"
)

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?")

# 127.1 and the like, which is an address for everybody who connects.
_NUMBERS = re.compile(r"[0-9A-Fa-fx]+(?:\.[0-9A-Fa-fx]+){0,3}", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a host, without a port and brackets, is this machine whatever a name server says."""
    name = host.removesuffix(".").lower()
    found = address(name)
    return name == "localhost" if found is None else found.is_loopback


def address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, in whatever way it is written; None for a name. Asks nobody."""
    try:
        found = ip_address(socket.inet_aton(host) if _NUMBERS.fullmatch(host) else host)
    except (OSError, ValueError):
        return None
    return getattr(found, "ipv4_mapped", None) or found


def answers(environ: Mapping[str, Any]) -> bool:
    """Whether a request is for a Host that is answered. One without a Host comes from no browser."""
    asked = environ.get("HTTP_HOST")
    if asked is None or not is_loopback(environ.get("SERVER_NAME", "")):
        return True
    found = _HOST.fullmatch(asked)
    return found is not None and is_loopback(found[1] or found[2])
