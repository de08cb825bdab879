"""What `run` says of an outage: one line when it begins and one when it ends, whatever the modules do meanwhile."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.databases import FAST, memory_folder
from tests.support.programs import read_until, running
from tests.support.waiting import eventually

MODULES = 100
WAIT = 30.0
SHOP = """
import pgflow_starter as pgflow

def made(number):
    return pgflow.job(f"job_{number}")(lambda message, ctx: message)

for number in range(100):
    globals()[f"job_{number}"] = made(number)
"""


@pytest.fixture
def own_server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server to be stopped and started."""
    with EmbeddedPostgres(version=pg_version, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        yield server


def test_a_hundred_modules_make_two_lines_of_an_outage(own_server: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    own_server.stop()
    modules = [f"shop:job_{number}" for number in range(MODULES)]
    arguments = ("run", *modules, "--http", "127.0.0.1:0", "--dsn", own_server.conninfo())
    with running("-m", "pgflow_starter", *arguments, cwd=tmp_path) as program:
        log = read_until(program.stderr, "serving the page")
        url = log.rpartition(" at ")[2].strip() + "/status"

        def status() -> Any:
            with urlopen(url, timeout=WAIT) as answer:
                return json.load(answer)

        # at the start: some attempts of each fail
        eventually(lambda: all(module["attempts"] >= 3 for module in status()["modules"]), WAIT)
        own_server.start()
        log += read_until(program.stderr, "ready: 100 of 100 modules succeeded")
        # while running
        own_server.stop("immediate")
        eventually(lambda: status()["outage"], WAIT)
        own_server.start()
        eventually(lambda: status()["outage"] is None, WAIT)
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate()
    lines = (log + rest).splitlines()
    said = Counter(line.split()[3] for line in lines)
    assert said == {
        "pgflow_starter.database:": 4,
        "pgflow_starter.modules:": MODULES,
        "pgflow_starter.cli:": 4,
    }, log + rest
    assert sum("succeeded in attempt" in line for line in lines) == MODULES
    told = [line.partition("pgflow_starter.database: ")[2] for line in lines if "pgflow_starter.database" in line]
    assert [text[:20] for text in told] == ["the database is away", "the database is back"] * 2
