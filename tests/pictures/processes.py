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
def program(command: list[str], folder: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """It runs in that folder for the block, and is killed then; what goes wrong meanwhile is told with what it said."""
    with tempfile.TemporaryFile("w+") as log:
        running = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, text=True)
        try:
            yield running
        except BaseException as error:
            log.seek(0)
            error.add_note(f"{' '.join(command)} said:\n{log.read()[-3000:]}")
            raise
        finally:
            running.kill()
            running.wait()


@contextmanager
def process(
    folder: Path, conninfo: str, *arguments: str, module: str = "pgflow_starter", env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """`run` with these arguments for the block, then SIGTERM. Raises AssertionError where it does not end well."""
    command = [sys.executable, "-m", module, "run", *arguments, "--dsn", conninfo]
    with program(command, folder, environment(env)) as running:
        yield
        running.terminate()
        code = running.wait(ENDS_WITHIN)
        assert code == 0, f"it ended with {code}"
