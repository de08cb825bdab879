"""The pgflow core's SQL: fetched from npm, verified, cached, never part of this package."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import os
import re
import tarfile
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

from pgflow_starter.core.text import one_line
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.migrations import OLDEST, Migration, Source, refuse_incomplete, text_of
from pgflow_starter.postgres.setup.npm import pack, published

VERSION = "0.8.1"
PACKAGE = "@pgflow/core"
INTEGRITY = "sha512-ElLPkKGPjttBsjlLJfn4CcMeiFwtuUhUNuFADwhQjdrg+netkeONY12oxcbPSBMqBWXVAuKriLq+1T1dCPEWPQ=="

_REMEDY = "look at the registry that npm is configured to use, or take another version"
_MIGRATIONS = "package/dist/supabase/migrations/"
_VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}(-[0-9A-Za-z.-]{1,40})?")


def latest() -> str:
    """The newest version, as npm has it. Takes 2 minutes at most. Raises SetupError."""
    return published(f"{PACKAGE}@latest")[0]


def migrations(version: str = VERSION) -> Source:
    """The migrations of that version of the core.

    From the cache without any network; else npm fetches them, which takes 4 minutes at most. 0.8.1 is the file that is
    known here; another version the one that npm's registry has published. Raises SetupError. Safe from any thread and
    process: a cached file is replaced as a whole.
    """
    if not _VERSION.fullmatch(version):
        raise SetupError(f"{one_line(version, 60)!r} is no version of {PACKAGE}: write three numbers, as in 0.14.1")
    package = f"{PACKAGE}@{version}"
    try:
        found = _files_in(_tarball(version))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise SetupError(f"the tarball of {package} cannot be read: {one_line(str(error), 100)}: {_REMEDY}") from None
    if not found:
        raise SetupError(f"{package} holds no migrations")
    if OLDEST not in found:
        raise SetupError(f"the pgflow core {version} is older than 0.8.1, which works here: take a newer one")
    refuse_incomplete(found, package, _REMEDY)
    migrations = [
        Migration(name, text_of(content, f"{one_line(name, 100)} of {package}", _REMEDY), *name.split("_", 1))
        for name, content in sorted(found.items())
    ]
    return Source(f"the pgflow core {version}", tuple(migrations), is_package=True)


def _files_in(tarball: bytes) -> dict[str, bytes]:
    """What is in the migrations' files, by their names. Raises what reading a tarball raises."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        for member in archive:
            file = member.name.removeprefix(_MIGRATIONS)
            if file == member.name or "/" in file or not file.endswith(".sql") or not member.isfile():
                continue
            content = archive.extractfile(member)
            if content is not None:
                found[file.removesuffix(".sql")] = content.read()
    return found


def cache_file(version: str = VERSION) -> Path | None:
    """Where the tarball is kept: below $XDG_CACHE_HOME or ~/.cache; None where there is neither."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The specification has relative paths ignored.
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return root / "pgflow_starter" / f"pgflow-core-{version}.tgz"


def _tarball(version: str) -> bytes:
    kept = cache_file(version)
    # What the registry said of it is kept beside it.
    sum_file = kept.with_suffix(".integrity") if kept is not None and version != VERSION else None
    if kept is not None:
        with suppress(OSError, UnicodeDecodeError):
            content = kept.read_bytes()
            if _is_genuine(content, sum_file.read_text() if sum_file else INTEGRITY):
                return content
    integrity = INTEGRITY if version == VERSION else published(f"{PACKAGE}@{version}")[1]
    content = pack(f"{PACKAGE}@{version}")
    if not _is_genuine(content, integrity):
        raise SetupError(
            f"what npm fetched as {PACKAGE}@{version} is not the file published under that version (its sha512"
            " differs): nothing was installed; look at the registry that npm is configured to use"
        )
    if kept is not None:
        _keep(kept, content)
        if sum_file is not None:
            _keep(sum_file, integrity.encode())
    return content


def _is_genuine(content: bytes, integrity: str) -> bool:
    """By a sha512 alone: older sums can be met by another file."""
    algorithm, _, expected = integrity.partition("-")
    if algorithm != "sha512":
        return False
    with suppress(binascii.Error, ValueError):
        return hmac.compare_digest(base64.b64decode(expected, validate=True), hashlib.sha512(content).digest())
    return False


def _keep(target: Path, content: bytes) -> None:
    """Write the cache as a whole or not at all; a folder that cannot be written is no failure."""
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, target)
        finally:
            Path(temporary).unlink(missing_ok=True)
