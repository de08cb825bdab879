"""The systemd unit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.deployed import FOLDER, NEEDED, listens_at

UNIT = FOLDER / "pgflow-shop.service"
PROGRAM = "/opt/shop/venv/bin/pgflow-starter"


def sections(text: str) -> dict[str, dict[str, list[str]]]:
    """The unit's settings by section, each with all its values; whatever is neither comment nor setting fails."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] | None = None
    for line in text.replace("\\\n", " ").splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
            continue
        name, equals, value = line.partition("=")
        assert section is not None, line
        assert equals, line
        assert name.isalnum(), line
        section.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def service() -> dict[str, list[str]]:
    found = sections(UNIT.read_text(encoding="utf-8"))
    assert list(found) == ["Unit", "Service", "Install"]
    return found["Service"]


def test_it_starts_the_program_in_the_foreground(service: dict[str, list[str]]) -> None:
    assert service["Type"] == ["exec"]
    (command,) = service["ExecStart"]
    assert command.startswith(PROGRAM)
    assert {host for host, _ in listens_at(command.removeprefix("/opt/shop/venv/bin/"))} == {"127.0.0.1"}


def test_it_ends_it_by_sigterm_and_waits_long_enough(service: dict[str, list[str]]) -> None:
    assert service["KillSignal"] == ["SIGTERM"]
    assert float(service["TimeoutStopSec"][0]) >= NEEDED


def test_it_starts_it_anew_when_it_gave_up_and_not_for_bad_usage(service: dict[str, list[str]]) -> None:
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]


def test_no_password_is_in_it() -> None:
    text = UNIT.read_text(encoding="utf-8")
    assert "Environment=PG" not in text
    assert "password=" not in text.lower()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_itself_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # It looks whether the program is there.
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(PROGRAM, "/bin/true"), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    about_it = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert about_it == []
