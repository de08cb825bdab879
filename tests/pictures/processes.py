"""`pgflow-starter run` as processes of their own, in a folder where the shop is."""

from __future__ import annotations

import py_compile
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import environment

SHOP = Path(__file__).with_name("shop.py")
ENDS_WITHIN = 40.0


def shop_in(folder: Path) -> None:
    """Put the shop there so that tracebacks name it `src/shop.py`, wherever the folder is."""
    source = folder / "src" / SHOP.name
    source.parent.mkdir()
    shutil.copy(SHOP, source)
    py_compile.compile(str(source), cfile=str(folder / "shop.pyc"), dfile=f"src/{SHOP.name}", doraise=True)


def free_port() -> int:
    """One of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def process(
    folder: Path, conninfo: str, *arguments: str, program: str = "pgflow_starter", env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """`run` with these arguments for the block, then SIGTERM. Raises RuntimeError with its log where it ended badly."""
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", program, "run", *arguments, "--dsn", conninfo]
        running = subprocess.Popen(command, cwd=folder, env=environment(env), stdout=log, stderr=log)
        try:
            yield
            running.terminate()
            code = running.wait(ENDS_WITHIN)
        finally:
            running.kill()
            running.wait()
        if code:
            log.seek(0)
            msg = f"{' '.join(arguments)} ended with {code}:\n{log.read()[-3000:]}"
            raise RuntimeError(msg)
