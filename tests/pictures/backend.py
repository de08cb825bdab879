"""A real OpenTelemetry backend: Arize Phoenix, in a virtual environment of its own, for it is 850 MB."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

from tests.pictures.processes import free_port, program
from tests.pictures.traced_program import PROJECT
from tests.support.programs import ROOT
from tests.support.waiting import eventually

PACKAGE = "arize-phoenix==20.26.1"
FOLDER = ROOT / ".venv-phoenix"
STARTS_WITHIN = 120.0


class Backend(NamedTuple):
    """One that runs at a URL."""

    url: str

    def spans(self) -> list[dict[str, Any]]:
        """All spans of the project."""
        found = self._answer(f"/v1/projects/{PROJECT}/spans?limit=1000")
        return list(found["data"])

    def page_of(self, trace_id: str) -> str:
        """Where a person sees a trace of the project."""
        project = self._answer(f"/v1/projects/{PROJECT}")["data"]["id"]
        return f"{self.url}/projects/{project}/traces/{trace_id}"

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._answer("/v1/projects"))
        except OSError:
            return False

    def _answer(self, path: str) -> Any:
        with urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def serving(folder: Path) -> Iterator[Backend]:
    """One with an empty database in that folder, on loopback, for the block."""
    folder.mkdir()
    port = free_port()
    env = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    with program([str(installed()), "serve"], folder, {**os.environ, **env}):
        backend = Backend(f"http://127.0.0.1:{port}")
        eventually(backend.is_up, STARTS_WITHIN, "Phoenix's start")
        yield backend


def installed() -> Path:
    """Its program, installed the first time. Raises RuntimeError where it cannot be."""
    stamp = FOLDER / ".installed"
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == PACKAGE):
        print(f"Installing {PACKAGE} into {FOLDER.name}: some 850 MB, once ...", flush=True)
        venv.create(FOLDER, with_pip=True, clear=True)
        pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "-q", PACKAGE]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            msg = f"{PACKAGE} could not be installed: {done.stderr[-500:]}"
            raise RuntimeError(msg)
        stamp.write_text(PACKAGE, encoding="utf-8")
    return FOLDER / "bin" / "phoenix"
