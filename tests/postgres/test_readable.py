"""Connection strings that are good for another driver: what is named of them, and that no password is."""

from __future__ import annotations

from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.connections.conninfo import UNREADABLE, refuse_unreadable
from tests.support.starters import await_state, echo_job, running

NEEDLESS = "leave it out, nothing here needs it; under 'notify' let listen_conninfo= lead past the pooler"


def refused(conninfo: str) -> str:
    with pytest.raises(SetupError) as told:
        refuse_unreadable(conninfo)
    return str(told.value)


@pytest.mark.parametrize(
    "conninfo",
    [
        "",
        "host=localhost dbname=shop",
        "postgresql://ada@localhost/shop?sslmode=require&application_name=shop",
        "postgres://ada@localhost/shop?ssl=true",
        "host=x options='-c pgbouncer=1'",
    ],
)
def test_what_libpq_reads_is_not_refused(conninfo: str) -> None:
    refuse_unreadable(conninfo)


@pytest.mark.parametrize(
    "scheme", ["postgresql+psycopg", "postgresql+asyncpg", "postgis", "jdbc:postgresql", "POSTGRESQL", "psql"]
)
@pytest.mark.parametrize("rest", ["ada:secret@localhost/shop", "localhost/shop?sslmode=require"])
def test_another_driver_s_scheme_is_named_with_what_to_write(scheme: str, rest: str) -> None:
    said = f"its scheme {scheme!r} is not libpq's: write 'postgresql://' and what follows as it is"
    assert refused(f"{scheme}://{rest}") == said


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("pgbouncer", NEEDLESS),
        ("prepareThreshold", NEEDLESS),
        ("connection_limit", "give start() the setting pool_size instead"),
        ("schema", "write options=-csearch_path%3D... instead"),
        ("ssl", "write sslmode=require instead"),
        ("sslmod", "did you mean 'sslmode'?"),
        ("xyzzy", "leave it out"),
    ],
)
@pytest.mark.parametrize("conninfo", ["postgresql://ada:secret@localhost/shop?{}=1", "host=localhost {}=1 port=5432"])
def test_an_option_that_libpq_does_not_know_is_named_with_what_to_do(conninfo: str, option: str, remedy: str) -> None:
    assert refused(conninfo.format(option)) == f"libpq has no option {option!r} ({remedy})"


def test_every_unknown_option_is_named_once() -> None:
    told = refused("postgresql:///shop?pgbouncer=true&sslmode=require&schema=a&pgbouncer=true")
    assert [part.split("'")[1] for part in told.split("; libpq")] == ["pgbouncer", "schema"]


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://ada:my?secret=word@localhost/shop?sslmode",
        "postgresql://ada@localhost:my?one=1&secret=word@localhost/shop",
        "postgresql://localhost/shop?password=my&secret=word",
        "postgresql://localhost/shop?passwd=my&secret=word",
        "postgresql://localhost/shop?pw=my&word=1",
        "host=localhost passwd=my word=1",
        "host=localhost pwd=my word=1",
        "host=localhost oauth_client_secret=my word=1",
        "ada:word://x@localhost/shop",
        "postgresql://[::1",
        "password=my secret=word",
        "password = my secret=word host=localhost",
        "password=secret://word x",
        "host=my secret word",
        "secret",
    ],
)
def test_what_may_be_a_piece_of_the_password_is_never_named(conninfo: str) -> None:
    assert refused(conninfo) == UNREADABLE


@pytest.mark.parametrize(
    "settings",
    [{}, {"signal_strategy": "notify"}, {"signal_strategy": "notify", "listen_conninfo": True}],
    ids=["polling", "notify", "the listener's own"],
)
def test_a_module_s_state_tells_what_is_wrong_with_the_string(database: str, settings: dict[str, Any]) -> None:
    bad = "postgresql+psycopg://ada:secret@localhost/shop"
    conninfo = database if "listen_conninfo" in settings else bad
    given = {**settings, "listen_conninfo": bad} if "listen_conninfo" in settings else settings
    with running(conninfo, jobs=[echo_job()], **given) as starter:
        error = await_state(starter, "echo", lambda s: s.last_error).last_error
        assert error is not None
        assert "its scheme 'postgresql+psycopg' is not libpq's" in error.reason
        assert error.error_class == "permanent"


def test_the_client_s_error_tells_it_as_well() -> None:
    with (
        pgflow.PgflowClient("postgresql://ada:secret@localhost/shop?pgbouncer=true", patience=0.1) as client,
        pytest.raises(pgflow.PgflowError, match="libpq has no option 'pgbouncer'"),
    ):
        client.enqueue("echo", 1)
