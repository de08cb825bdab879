"""PgBouncer as a process, in front of the tests' server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_starter.postgres.embedded.folders_and_ports import new_folder, take_port
from pgflow_starter.postgres.embedded.identity import server_identity
from tests.support.waiting import eventually

MISSING = (
    "the program pgbouncer is missing: install it (Debian and Ubuntu: apt-get install pgbouncer; macOS: brew install"
    " pgbouncer), or put it on PATH"
)
# Debian has it where only root's PATH looks.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])

_SETTINGS = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {pool_mode}
default_pool_size = {pool_size}
max_client_conn = 200
"""


def program() -> str | None:
    """Where pgbouncer is, None where it is not."""
    return shutil.which("pgbouncer", path=_PATH)


@contextmanager
def pooler(server: str, *, pool_mode: str, pool_size: int) -> Iterator[int]:
    """The port of 127.0.0.1 where a PgBouncer listens that leads to the server of that connection string."""
    identity = server_identity()
    target, folder = conninfo_to_dict(server), new_folder(identity)
    port, keeper = take_port()
    found = program()
    assert found is not None, MISSING
    try:
        for name, text in {
            "settings": _SETTINGS.format(
                host=target["host"],
                port=target["port"],
                listen_port=port,
                folder=folder,
                pool_mode=pool_mode,
                pool_size=pool_size,
            ),
            "users": f'"postgres" "{target["password"]}"\n',
        }.items():
            (folder / name).write_text(text)
            identity.own(folder / name)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [found, folder / "settings"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=identity.user,
                group=identity.group,
                extra_groups=identity.extra_groups,
            )
        try:
            through = make_conninfo(server, host="127.0.0.1", port=port)
            eventually(lambda: process.poll() is not None or answers(through), 10, "PgBouncer to answer")
            assert process.poll() is None, (folder / "log").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(10)
    finally:
        keeper.close()
        shutil.rmtree(folder, ignore_errors=True)


def answers(conninfo: str) -> bool:
    """Whether somebody answers there."""
    try:
        psycopg.connect(conninfo, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
