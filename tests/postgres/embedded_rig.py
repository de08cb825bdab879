"""What the tests of the embedded server ask it, and the processes around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import psycopg

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres

ROOT = Path(__file__).parents[2]


def answer(conninfo: str, query: str = "select 1") -> object:
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def folder_of(server: EmbeddedPostgres) -> Path:
    return folder_at(server.conninfo())


def folder_at(conninfo: str) -> Path:
    return Path(str(answer(conninfo, "show data_directory"))).parent


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
