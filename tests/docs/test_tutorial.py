"""Somebody types what the tutorial says, and sees what it shows."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from pgflow_starter.postgres.embedded.folders_and_ports import take_port
from tests.support.pages import DOCS, blocks, matches
from tests.support.programs import environment, read_until, running

FIRST, AWAY = (DOCS / "tutorial" / name for name in ("first-flow.md", "database-away.md"))
ANSWERS_WITHIN = 60.0
PROGRESS = re.compile(r" *\d+\.\d\d s  ")


class Reader:
    """In a folder of their own, with the program under its module's name and a port that is free."""

    def __init__(self, folder: Path, server: subprocess.Popen[str], port: int) -> None:
        self.folder = folder
        self.server = server
        self.port = port
        self.dsn = ""

    def press_enter(self) -> None:
        """In the terminal of database.py."""
        assert self.server.stdin is not None
        self.server.stdin.write("\n")
        self.server.stdin.flush()

    def words(self, command: str) -> list[str]:
        """What to start Python with."""
        program, *arguments = shlex.split(command.replace(":8080", f":{self.port}"))
        assert program == "pgflow-starter"
        return ["-m", "pgflow_starter", *arguments]

    def runs(self, command: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """The command as it runs beside the others."""
        return running(*self.words(command), env={"PGFLOW_DSN": self.dsn}, cwd=self.folder)

    def types(self, command: str) -> str:
        """All that the command says, standard error last."""
        done = subprocess.run(
            [sys.executable, *self.words(command)],
            env=environment({"PGFLOW_DSN": self.dsn}),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=ANSWERS_WITHIN,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    for block in blocks(FIRST):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
    server = subprocess.Popen(
        [sys.executable, "-u", "database.py"],
        env=environment(),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(3 * ANSWERS_WITHIN, server.kill)
    watchdog.start()
    port, keeper = take_port()
    with server, keeper:
        try:
            reader = Reader(tmp_path, server, port)
            said = read_until(server.stdout, "export").strip()
            read_until(server.stdout, "Enter stops")
            assert said.startswith("export PGFLOW_DSN='host=127.0.0.1 port=")
            reader.dsn = said.partition("'")[2].rstrip("'")
            yield reader
            server.communicate("", timeout=ANSWERS_WITHIN)  # Ctrl-D
            assert server.returncode == 0
        finally:
            server.kill()
            watchdog.cancel()
            watchdog.join()


def shown(page: Path) -> list[tuple[str, str]]:
    """Each command of the page, and what it is to say."""
    found = []
    for block in blocks(page):
        if block.language == "console":
            (command,) = block.commands()
            found.append((command, block.text.partition("\n")[2]))
    return found


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def assert_said(said: str, expected: str) -> None:
    """Line by line, but for blank ones, the space at their ends, and the progress that a slow run shows."""
    told = [line for line in lines(said) if not PROGRESS.match(line)]
    assert len(told) == len(lines(expected)), said
    for line, due in zip(told, lines(expected), strict=True):
        assert matches(due, line), said


def test_a_reader_sees_what_the_tutorial_shows(reader: Reader) -> None:
    (pip, _), (database, _), install, graph, (run, ready), good, bad = shown(FIRST)
    assert pip.startswith("pip install ")
    assert database == "python database.py"
    for command, expected in (install, graph):
        assert_said(reader.types(command), expected)
    with reader.runs(run) as starter:
        said = read_until(starter.stderr, "ready: ")
        for due in lines(ready):
            assert any(matches(due, line) for line in lines(said)), said
        assert_said(reader.types(good[0]), good[1])
        assert_said(reader.types(bad[0]), bad[1])
        starter.send_signal(signal.SIGTERM)
        starter.communicate()
    assert starter.returncode == 0


def test_the_database_may_go_away_as_the_tutorial_has_it(reader: Reader) -> None:
    (watch, _), refused, accepted, (run, away) = shown(AWAY)
    reader.types("pgflow-starter db install")
    with ExitStack() as stack:
        starter = stack.enter_context(reader.runs(run))
        read_until(starter.stderr, "ready: ")
        watching = stack.enter_context(reader.runs(watch))
        read_until(watching.stdout, "ready, healthy")
        reader.press_enter()
        read_until(reader.server.stdout, "It is down")
        assert_said(reader.types(refused[0]), refused[1])
        status = reader.types("pgflow-starter status 127.0.0.1:8080")
        assert "ready, healthy" in status
        assert "the database is away for " in status
        reader.press_enter()
        read_until(reader.server.stdout, "Enter stops")
        assert_said(reader.types(accepted[0]), accepted[1])
        reader.press_enter()
        read_until(reader.server.stdout, "It is down")
        starter.send_signal(signal.SIGINT)
        _, said = starter.communicate()
        assert ["stopping" in said, "stopped" in said] == [True, True]
        again = stack.enter_context(reader.runs(run))
        said = read_until(again.stderr, "is away")
        assert matches(lines(away)[0], lines(said)[-1]), said
        read_until(watching.stdout, "order (flow): retrying")
        reader.press_enter()
        read_until(again.stderr, "ready: ")
        again.send_signal(signal.SIGTERM)
        again.communicate()
        watching.send_signal(signal.SIGINT)
        watching.communicate()
