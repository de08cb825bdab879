"""The Dockerfile, instruction by instruction."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.deployed import FOLDER, NEEDED, listens_at
from tests.support.programs import ROOT

TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
KNOWN = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
Stage = list[tuple[str, str]]


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    """The instructions of each stage, with their arguments."""
    found: list[Stage] = []
    for line in TEXT.splitlines():
        if not line or line.startswith("#"):
            continue
        instruction, _, argument = line.partition(" ")
        assert instruction in KNOWN, line
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, argument))
    return found


def values(stage: Stage, instruction: str) -> list[str]:
    return [argument for name, argument in stage if name == instruction]


def test_what_it_copies_is_there(stages: list[Stage]) -> None:
    names = {words[2] for stage in stages for words in [values(stage, "FROM")[0].split()] if len(words) == 3}
    for stage in stages:
        for argument in values(stage, "COPY"):
            words = shlex.split(argument)
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in names
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists(), source


def test_what_is_installed_has_all_that_the_build_reads(stages: list[Stage]) -> None:
    copied = {word for argument in values(stages[0], "COPY") for word in argument.split()[:-1]}
    assert {"pyproject.toml", "README.md", "LICENSE", "pgflow_starter", "docs/troubleshooting.md"} <= copied
    (install,) = [run for run in values(stages[0], "RUN") if "pip install" in run]
    assert "'.[cli,prometheus]'" in install


def test_it_does_not_run_as_root(stages: list[Stage]) -> None:
    (user,) = values(stages[-1], "USER")
    assert all(int(number) > 0 for number in user.split(":"))


def test_the_program_is_the_first_process_and_gets_the_signal(stages: list[Stage]) -> None:
    entrypoint, command = (json.loads(values(stages[-1], name)[0]) for name in ("ENTRYPOINT", "CMD"))
    (host, port), (exposed, metrics) = listens_at(shlex.join([*entrypoint, *command]))
    assert host == exposed == "0.0.0.0"
    assert values(stages[-1], "EXPOSE") == [f"{port} {metrics}"]
    assert values(stages[-1], "STOPSIGNAL") == ["SIGTERM"]


def test_the_flows_are_where_the_program_is_started(stages: list[Stage]) -> None:
    last = stages[-1]
    order = [name for name, argument in last if name == "WORKDIR" or argument.endswith("shop.py ./")]
    assert order == ["WORKDIR", "COPY"]
    assert Path(FOLDER / "shop.py").exists()


def test_the_line_that_runs_it_waits_long_enough_and_shows_it_to_this_machine_alone() -> None:
    (line,) = re.findall(r"docker run(?:.*\\\n)*.*", TEXT)
    words = line.split()
    assert float(words[words.index("--stop-timeout") + 1]) >= NEEDED
    published = [after for word, after in pairwise(words) if word == "-p"]
    assert published == ["127.0.0.1:8080:8080", "127.0.0.1:9464:9464"]
