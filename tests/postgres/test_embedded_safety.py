"""The embedded server's user can do nothing to root, and nobody gets in without the password."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.embedded.folders_and_ports import new_folder
from pgflow_starter.postgres.embedded.identity import Identity, server_identity
from pgflow_starter.postgres.embedded.postmaster import await_ready
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.postgres.embedded_rig import answer, folder_of


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_that_the_server_s_user_leaves_leads_nowhere(
    own: EmbeddedPostgres, link: Callable[[Path, Path], None]
) -> None:
    home = folder_of(own)
    target = Path(tempfile.mkdtemp(dir=home.parent)) / "precious"  # a hard link does not cross to another disk
    try:
        target.write_text("precious")
        before = target.stat()
        own.stop()
        for folder in ("data", "run"):
            for name in ("server.log", "password"):
                link(target, home / folder / name)
        own.start()
        after = target.stat()
        assert (after.st_uid, after.st_mode, after.st_size) == (before.st_uid, before.st_mode, before.st_size)
    finally:
        shutil.rmtree(target.parent)


def test_a_log_that_is_a_link_is_not_followed(own: EmbeddedPostgres, tmp_path: Path) -> None:
    home, target = folder_of(own), tmp_path / "precious"
    target.write_text("precious")
    own.stop()
    (home / "server.log").unlink()
    (home / "server.log").symlink_to(target)
    with pytest.raises(SetupError, match=r"PostgreSQL ended while starting"):
        own.start()
    assert target.read_text() == "precious"


def test_a_pid_file_that_is_a_link_or_a_pipe_says_nothing_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    process = psutil.Process()
    told, link, pipe = tmp_path / "told", tmp_path / "link", tmp_path / "pipe"
    told.write_text("\n".join([str(process.pid), *"......", "ready"]))
    await_ready(process, told)
    link.symlink_to(told)
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        try:
            for wrong in (link, pipe):
                with pytest.raises(SetupError, match=r"accepted no connection within 0\.1 s"):
                    threads.submit(await_ready, process, wrong, timeout=0.1).result(10)
        finally:
            os.close(os.open(pipe, os.O_RDWR))  # who waits for a writer has had one


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_of_the_home_the_server_s_user_can_change_nothing(own: EmbeddedPostgres) -> None:
    identity, home = server_identity(), folder_of(own)
    for attempt in (
        ["touch", home / "x"],
        ["mv", home / "data", home / "y"],
        ["rm", home / "server.log"],
        ["ls", home],
    ):
        assert "Permission denied" in str(identity.run(["/usr/bin/env", *attempt]))
    assert identity.run(["/usr/bin/env", "touch", home / "data/mine"]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o775, 0), (0o755, 65534), (0o1777, 65534)])
def test_a_folder_whose_contents_others_can_replace_is_passed_over(
    mode: int, owner: int, roomy_folder: Path, pg_version: int
) -> None:
    parent = roomy_folder / "above" / "parent"
    parent.mkdir(parents=True)
    parent.chmod(0o1777)
    os.chown(parent.parent, owner, owner)
    parent.parent.chmod(mode)
    assert new_folder(Identity(), parent).parent == parent
    made = new_folder(server_identity(), parent)
    assert parent not in made.parents
    made.rmdir()


def test_over_tcp_there_is_a_password_and_the_connection_string_has_it(own: EmbeddedPostgres) -> None:
    given = conninfo_to_dict(own.conninfo())
    assert len(str(given["password"])) >= 32
    assert str(given["password"]) not in repr(own)
    for password in (None, "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            answer(make_conninfo("", **{**given, "password": password}))
    rules = "select string_agg(distinct auth_method, ' ') from pg_hba_file_rules where type = 'host'"
    assert answer(own.conninfo(), rules) == "scram-sha-256"
    assert answer(own.conninfo(), "select rolpassword like 'SCRAM-SHA-256$%' from pg_authid where oid = 10") is True


def test_each_server_has_a_password_of_its_own_and_leaves_it_in_no_file(own: EmbeddedPostgres, pg_version: int) -> None:
    password = str(conninfo_to_dict(own.conninfo())["password"])
    other = EmbeddedPostgres(version=pg_version, tcp=True)
    try:
        assert password not in other.conninfo()
    finally:
        other.close()
    for path in folder_of(own).rglob("*"):
        if path.is_file():
            assert password.encode() not in path.read_bytes(), path


def test_the_file_that_initdb_reads_it_from_is_for_the_server_s_user_alone(
    pg_version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, int, int | None]] = []
    run = Identity.run

    def watched(self: Identity, command: Sequence[object], **more: Any) -> str | None:
        for word in map(str, command):
            if word.startswith("--pwfile="):
                file = Path(word.partition("=")[2])
                found = file.stat()
                seen.append((file, found.st_mode & 0o777, found.st_uid))
                return "it failed"
        return run(self, command, **more)

    monkeypatch.setattr(Identity, "run", watched)
    server = EmbeddedPostgres(version=pg_version, tcp=True)
    try:
        with pytest.raises(SetupError, match="initdb failed: it failed"):
            server.start()
        user = server_identity().user
        ((file, *rights),) = seen
        assert rights == [0o600, os.geteuid() if user is None else user]
        assert file.parent.exists()
        assert not file.exists()
    finally:
        server.close()


def test_without_tcp_nobody_gets_in_by_an_address(server: EmbeddedPostgres) -> None:
    rules = "select string_agg(distinct auth_method, ' ') from pg_hba_file_rules where type = 'host'"
    assert answer(server.conninfo(), rules) == "reject"
    assert "password" not in server.conninfo()
