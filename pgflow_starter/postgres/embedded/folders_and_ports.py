"""Folders and ports on this machine for a server of our own."""

from __future__ import annotations

import os
import re
import secrets
import socket
import stat
import sys
import tempfile
from pathlib import Path

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.embedded.identity import Identity

# Below the range that systems give to outgoing connections: while the server is down nobody is handed its port, and a
# client that retries cannot end up connected to itself.
_PORTS = range(20000, 32000)

PLAIN = re.compile(r"[\w./ -]+", re.ASCII)
"""Paths that every program takes as they are."""


def new_folder(identity: Identity, parent: Path | None = None) -> Path:
    """A new folder of ours, in `parent`, else $TMPDIR, else /tmp, where `identity` can reach them.

    Another `identity` can only pass through it, by names that it knows. Raises SetupError.
    """
    return _new_folder(identity, *([str(parent)] if parent else []), tempfile.gettempdir(), "/tmp", "/var/tmp")


def give_folder(identity: Identity, folder: Path) -> Path:
    """A new folder that only `identity` can enter, in one of ours. Raises OSError."""
    folder.mkdir(mode=0o700)
    identity.own(folder)
    return folder


def plain_folder(identity: Identity, home: Path) -> Path:
    """`home`, else a new folder whose name is short and plain. Raises SetupError.

    A socket's path has about 100 bytes, libpq takes a comma for the next host, and initdb quotes its own path badly.
    """
    if len(os.fsencode(home)) <= 80 and PLAIN.fullmatch(str(home)):
        return home
    return _new_folder(identity, "/tmp", "/var/tmp")


def take_port() -> tuple[int, socket.socket]:
    """A port of 127.0.0.1 that nobody has, and what keeps it until that is closed. Raises SetupError.

    On Linux it is bound, and not listened on: who looks for a free port is refused, a server that sets SO_REUSEADDR, as
    they do, may listen there, end, and listen again. Elsewhere that server would be refused as well: nothing keeps it.
    """
    for _ in range(50):
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        keeper = socket.socket()
        try:
            keeper.bind(("127.0.0.1", port))
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not before: two would get one port
        except OSError:
            keeper.close()
            continue
        if sys.platform != "linux":
            keeper.close()
        return port, keeper
    raise SetupError(f"no free port of 127.0.0.1 was found between {_PORTS[0]} and {_PORTS[-1]}")


def _new_folder(identity: Identity, *parents: str) -> Path:
    reason = "none of them exists"
    for parent in dict.fromkeys(parents):
        if identity.user is not None and not identity.can(("-x", Path(parent))):
            reason = f"user {identity.user} cannot enter {parent}"
            continue
        try:
            if identity.user is not None and not _stays(Path(parent)):
                reason = f"other users could put something else in the place of what is in {parent}"
                continue
            folder = Path(tempfile.mkdtemp(prefix="pgflow-", dir=parent))
            if identity.user is not None:
                folder.chmod(0o711)
        except OSError as error:
            reason = str(error)
            continue
        return folder
    raise SetupError(f"no temporary folder can be made in {', '.join(parents)} ({reason}): set TMPDIR to one")


def _stays(folder: Path) -> bool:
    """Whether what root makes in a folder can be renamed by root alone."""
    for part in (folder.resolve(), *folder.resolve().parents):
        found = part.stat()
        others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if found.st_uid != 0 or others_write:
            return False
    return True
