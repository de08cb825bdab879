"""The pgflow core's SQL: fetched from npm, verified, cached, never part of this package."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import os
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.npm import pack

VERSION = "0.8.1"
PACKAGE = f"@pgflow/core@{VERSION}"
INTEGRITY = "sha512-ElLPkKGPjttBsjlLJfn4CcMeiFwtuUhUNuFADwhQjdrg+netkeONY12oxcbPSBMqBWXVAuKriLq+1T1dCPEWPQ=="

_MIGRATIONS = "package/dist/supabase/migrations/"


class Migration(NamedTuple):
    """One migration file of the core."""

    name: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """The core's migrations in the order in which they apply.

    From the cache without any network; else npm fetches them, which takes 2 minutes at most. Raises SetupError. Safe
    from any thread and process: the cached file is replaced as a whole.
    """
    found: list[Migration] = []
    with tarfile.open(fileobj=io.BytesIO(_tarball()), mode="r:gz") as archive:
        for member in archive:
            name = member.name.removeprefix(_MIGRATIONS)
            if name == member.name or "/" in name or not name.endswith(".sql") or not member.isfile():
                continue
            content = archive.extractfile(member)
            if content is not None:
                found.append(Migration(name, content.read().decode()))
    if not found:
        raise SetupError(f"{PACKAGE} holds no migrations")
    return tuple(sorted(found))


def cache_file() -> Path | None:
    """Where the tarball is kept: below $XDG_CACHE_HOME or ~/.cache; None where there is neither."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The specification has relative paths ignored.
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return root / "pgflow_starter" / f"pgflow-core-{VERSION}.tgz"


def _tarball() -> bytes:
    kept = cache_file()
    if kept is not None:
        try:
            content = kept.read_bytes()
        except OSError:
            content = b""
        if _is_genuine(content):
            return content
    content = pack(PACKAGE)
    if not _is_genuine(content):
        raise SetupError(
            f"what npm fetched as {PACKAGE} is not the file published under that version (its sha512 differs): "
            "nothing was installed; look at the registry that npm is configured to use"
        )
    if kept is not None:
        _keep(kept, content)
    return content


def _is_genuine(content: bytes) -> bool:
    algorithm, _, expected = INTEGRITY.partition("-")
    return hmac.compare_digest(base64.b64encode(hashlib.new(algorithm, content).digest()).decode(), expected)


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
