"""Where `status` asks: addresses, what is secret in them, redirections and proxies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgflow_starter.cli.status import status
from pgflow_starter.cli.status_url import parse
from tests.cli.rig import Starter, answer
from tests.support.commands import call
from tests.support.stub_web import StubWeb, stub_web


def test_without_a_url_port_8080_on_loopback_is_asked(web: StubWeb) -> None:
    (url,) = [param for param in status.params if param.name == "url"]
    assert str(parse(str(url.default))) == "http://127.0.0.1:8080/status"
    assert call("status", env={"PGFLOW_URL": f"127.0.0.1:{web.port}"}).exit_code == 0


def test_credentials_are_sent_and_never_shown(web: StubWeb, starter: Starter) -> None:
    url = f"http://me:hush%20hush@127.0.0.1:{web.port}/shop/?token=hush"
    result = call("status", url)
    assert web.requests == [("/shop/status", "token=hush", "Basic bWU6aHVzaCBodXNo")]
    starter.reply = ("401 Unauthorized", b"")
    refused = call("status", url)
    assert refused.exit_code == 3
    assert f"no status from http://127.0.0.1:{web.port}/shop/status: the answer is 401 Unauthorized" in refused.stderr
    assert "hush" not in result.output + refused.output


def test_another_host_is_not_given_the_credentials(web: StubWeb, starter: Starter) -> None:
    with stub_web(lambda: ("200 OK", answer())) as other:
        starter.reply = ("302 Found", b"")
        web.headers.append(("Location", f"http://127.0.0.1:{other.port}/status"))
        assert call("status", f"http://me:hush@127.0.0.1:{web.port}").exit_code == 0
    assert [authorization for _, _, authorization in other.requests] == [None]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("localhost:8080", "http://localhost:8080/status"),
        ("shop.example", "http://shop.example/status"),
        ("https://shop.example/", "https://shop.example/status"),
        ("https://shop.example/flows/status", "https://shop.example/flows/status"),
        ("http://[::1]:80/a/b/", "http://[::1]:80/a/b/status"),
        ("http://me:secret@here/?a=b", "http://here/status"),
    ],
)
def test_an_address_may_be_the_page_s_or_the_status_s(given: str, shown: str) -> None:
    assert str(parse(given)) == shown


@pytest.mark.parametrize(
    "given",
    [
        "http://alice:123/hunter2@host",
        "alice:123/hunter2@host",
        "http://alice:123?hunter2@host",
        "http://alice:123#hunter2@host",
        "http://alice:hun?ter2@host",
    ],
)
def test_an_address_that_may_have_part_of_a_password_after_its_host_is_refused_and_not_shown(given: str) -> None:
    result = call("status", given)
    assert result.exit_code == 2
    assert "is not shown" in result.stderr
    for part in ("hunter2", "ter2", "alice", "123"):
        assert part not in result.output


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("http://host/ü", "its path or query has letters that an address cannot have"),
        ("http://host/?ü", "its path or query has letters that an address cannot have"),
        ("http://é..x", "its host is not the name of one"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(given: str, words: str) -> None:
    result = call("status", given)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_redirection_without_end_is_one_line(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("302 Found", b"")
    web.headers.append(("Location", "/status"))
    result = call("status", f"127.0.0.1:{web.port}")
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    assert "would lead to an infinite loop" in result.stderr


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubWeb]:
    """The environment's proxy for everything."""
    with stub_web(lambda: ("200 OK", answer())) as stub:
        for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{stub.port}")
        yield stub


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST", "localhost.", "127.1", "0.0.0.0", "127.1.2.3", "[::1]"])
def test_on_loopback_no_proxy_is_asked(host: str, web: StubWeb, proxy: StubWeb) -> None:
    result = call("status", f"http://{host}:{web.port}")
    assert proxy.requests == []
    assert result.exit_code == (0 if web.requests else 3)


def test_elsewhere_the_proxy_is_asked_and_no_more_once_the_answer_leads_to_loopback(
    web: StubWeb, proxy: StubWeb
) -> None:
    assert call("status", "http://ops.invalid").exit_code == 0
    assert len(proxy.requests) == 1
    proxy.reply = lambda: ("302 Found", b"")
    proxy.headers.append(("Location", f"http://127.0.0.1:{web.port}/status"))
    assert call("status", "http://ops.invalid").exit_code == 0
    assert (len(proxy.requests), len(web.requests)) == (2, 1)
