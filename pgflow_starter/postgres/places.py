"""Folders and ports on this machine for a server of our own."""

from __future__ import annotations

import os
import re
import secrets
import socket
import tempfile
from pathlib import Path

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.identity import Identity

# Below the range that systems give to outgoing connections: while the server is down nobody is handed its port, and a
# client that retries cannot end up connected to itself.
_PORTS = range(20000, 32000)

PLAIN = re.compile(r"[\w./ -]+", re.ASCII)
"""Paths that every program takes as they are."""


def new_folder(identity: Identity, parent: Path | None = None) -> Path:
    """A new folder that only `identity` can enter: in `parent`, else $TMPDIR, else /tmp, where it can reach them.

    Raises SetupError.
    """
    return _new_folder(identity, *([str(parent)] if parent else []), tempfile.gettempdir(), "/tmp", "/var/tmp")


def plain_folder(identity: Identity, home: Path) -> Path:
    """`home`, else a new folder whose name is short and plain. Raises SetupError.

    A socket's path has about 100 bytes, libpq takes a comma for the next host, and initdb quotes its own path badly.
    """
    if len(os.fsencode(home)) <= 80 and PLAIN.fullmatch(str(home)):
        return home
    return _new_folder(identity, "/tmp", "/var/tmp")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now. Raises SetupError."""
    for _ in range(50):
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SetupError(f"no free port of 127.0.0.1 was found between {_PORTS[0]} and {_PORTS[-1]}")


def _new_folder(identity: Identity, *parents: str) -> Path:
    reason = "none of them exists"
    for parent in dict.fromkeys(parents):
        if identity.user is not None and not identity.can(("-x", Path(parent))):
            reason = f"user {identity.user} cannot enter {parent}"
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix="pgflow-", dir=parent))
            identity.own(folder)
        except OSError as error:
            reason = str(error)
            continue
        return folder
    raise SetupError(f"no temporary folder can be made in {', '.join(parents)} ({reason}): set TMPDIR to one")
