"""A connection that is refused: why, by the SQLSTATE that the server sends, in whatever language."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgflow_starter.core.classify import classify
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import gated
from pgflow_starter.postgres.connections.server_words import sqlstate_in
from tests.support.database import opened

WAIT = 10.0
AUTHENTICATION_OK = b"R" + (8).to_bytes(4) + (0).to_bytes(4)


def refusal(sqlstate: str, words: str) -> bytes:
    """An ErrorResponse as a server sends it."""
    fields = [b"S\xd0\x92\xd0\x90\xd0\x96\xd0\x9d\xd0\x9e", b"VFATAL", b"C" + sqlstate.encode(), b"M" + words.encode()]
    body = b"\0".join(fields) + b"\0\0"
    return b"E" + (len(body) + 4).to_bytes(4) + body


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """The connection string of a server that answers each start of a session so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    if client.recv(8)[4:] == b"\x04\xd2\x16\x2f":  # asks for encryption
                        client.sendall(b"N")
                        client.recv(8)
                    client.recv(4096)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"host=127.0.0.1 port={listening.getsockname()[1]} user=bob dbname=shop gssencmode=disable"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            thread.join(WAIT)


@pytest.mark.parametrize(
    ("answer", "sqlstate", "expected"),
    [
        (refusal("28P01", "пользователь не прошёл проверку подлинности"), "28P01", ErrorClass.PERMANENT),
        (refusal("28000", "kein Eintrag in pg_hba.conf"), "28000", ErrorClass.PERMANENT),
        (AUTHENTICATION_OK + refusal("3D000", "la base n'existe pas"), "3D000", ErrorClass.PERMANENT),
        (refusal("57P03", "la base de données démarre"), "57P03", ErrorClass.TRANSIENT),
        (refusal("53300", "trop de clients"), "53300", ErrorClass.TRANSIENT),
    ],
)
def test_the_reason_is_known_whatever_the_language(answer: bytes, sqlstate: str, expected: ErrorClass) -> None:
    with saying(answer) as conninfo:
        with pytest.raises(psycopg.Error) as raised:
            gated(lambda: True).connect(conninfo, connect_timeout=5)
        assert raised.value.sqlstate == sqlstate
        with opened(conninfo) as db, pytest.raises(DatabaseError) as caught, db.connection():
            pass
    error = caught.value
    assert (error.sqlstate, error.connection_lost, error.unknown) == (sqlstate, True, False)
    assert classify(error, Phase.WORKER) is expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"N",
        b"E",
        b"E\xff\xff\xff\xff",
        b"E\x00\x00\x00\x00",
        b"\x16\x03\x01\x02\x00" + b"x" * 512,
        refusal("28P01", "no")[:-3],
        b"E" + (4).to_bytes(4),
    ],
)
def test_what_is_no_whole_error_says_nothing(data: bytes) -> None:
    assert sqlstate_in(data) is None
