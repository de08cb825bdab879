"""pgmq's package: what is installed of it is known, or accepted."""

from __future__ import annotations

import hashlib

import pgmq.install
import pytest

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.setup.pgmq_package import pgmq_sql
from tests.postgres.install_rig import value
from tests.support.commands import call


@pytest.fixture
def newer_pgmq(monkeypatch: pytest.MonkeyPatch) -> str:
    """A pgmq that was published after this package; its digest."""
    sql = pgmq.install.get_embedded_install_sql() + "\ncreate table pgmq.newer ();\n"
    monkeypatch.setattr(pgmq.install, "get_embedded_install_sql", lambda: sql)
    monkeypatch.setattr(pgmq.install, "get_embedded_sql_version", lambda: "9.9.9")
    return hashlib.sha256(sql.encode()).hexdigest()


def test_the_sql_of_the_installed_pgmq_is_one_that_is_known() -> None:
    assert pgmq_sql()[0] == "1.13.0"


def test_a_pgmq_that_is_not_known_is_refused_until_it_is_accepted(empty_database: str, newer_pgmq: str) -> None:
    with pytest.raises(SetupError, match=r"pgmq 9\.9\.9 .* none that was tried here") as caught:
        install(empty_database)
    assert newer_pgmq in str(caught.value)
    assert "`pgflow-starter db install --accept`" in str(caught.value)
    assert len(check(empty_database).missing) == 2
    assert install(empty_database, accept=True).steps[0] == "installed pgmq 9.9.9 as plain SQL"
    assert value(empty_database, "select to_regclass('pgmq.newer') is not null") is True


def test_the_command_refuses_and_accepts_as_well(empty_database: str, newer_pgmq: str) -> None:
    refused = call("db", "install", "--dsn", empty_database)
    assert refused.exit_code == 1
    assert newer_pgmq in refused.stderr
    assert "Traceback" not in refused.output
    accepted = call("db", "install", "--accept", "--dsn", empty_database)
    assert (accepted.exit_code, accepted.stderr) == (0, "")
    assert "installed pgmq 9.9.9 as plain SQL" in accepted.stdout


def test_where_pgmq_is_there_nobody_asks_what_package_is_installed(database: str, newer_pgmq: str) -> None:
    assert install(database).steps == ()
