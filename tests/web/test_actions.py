"""What may be done from the page, and by whom not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from pgflow_starter import (
    DatabaseError,
    MissingRightsError,
    PgflowError,
    RunSummary,
    StarterStopped,
    StarterTerminated,
    UnknownFlowError,
    web,
)
from pgflow_starter.testing import ManualClock
from pgflow_starter.web.application import Application
from pgflow_starter.web.looks import Shown
from tests.support.starters import echo_job, running
from tests.web.client import Answer, get, post
from tests.web.stage import Stage, module, run

ACTIONS = ("/actions/retry-now", "/actions/cancel", "/actions/rerun")


@pytest.fixture
def stage() -> Stage:
    return Stage(modules=(module("order"),), runs=(run(5, "order", "started", {}),))


@pytest.fixture
def url(stage: Stage) -> Iterator[str]:
    with web.serve(stage, ":0", actions=True) as server:
        yield server.url


def token_of(url: str) -> str:
    """As the page finds it out."""
    told = get(url, "/actions").data
    assert told["actions"] is True
    return str(told["token"])


def acted(url: str, what: str, body: Any, **headers: str | None) -> Answer:
    """The answer to an action of the page, but for some headers."""
    given = {"X_Pgflow_Token": token_of(url), "Origin": url, "Sec_Fetch_Site": "same-origin", **headers}
    return post(url, f"/actions/{what}", json.dumps(body).encode(), **given)


def test_a_module_is_tried_again(stage: Stage, url: str) -> None:
    answer = acted(url, "retry-now", {"module": "order"})
    assert (answer.status, answer.data) == (200, {"module": "order"})
    assert stage.done == ["retry order"]


def test_after_an_action_on_a_run_the_database_is_asked_anew(stage: Stage, url: str) -> None:
    (listed,) = get(url, "/runs").data["runs"]
    asked = len(stage.asked)
    assert acted(url, "cancel", {"run": listed["id"]}).status == 200
    assert get(url, "/runs").status == 200
    assert len(stage.asked) == asked + 1


def test_a_program_that_is_no_browser_may_act_with_the_token(stage: Stage, url: str) -> None:
    assert acted(url, "retry-now", {"module": "order"}, Origin=None, Sec_Fetch_Site=None).status == 200


def test_a_browser_that_does_not_tell_the_site_tells_the_origin(stage: Stage, url: str) -> None:
    assert acted(url, "retry-now", {"module": "order"}, Sec_Fetch_Site=None).status == 200


def test_behind_a_proxy_it_is_the_browsers_word_that_counts(stage: Stage, url: str) -> None:
    assert acted(url, "retry-now", {"module": "order"}, Origin="https://ops.example").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Pgflow_Token": None},
        {"X_Pgflow_Token": ""},
        {"X_Pgflow_Token": "x" * 43},
        {"X_Pgflow_Token": "\xe9"},
        {"Origin": "http://evil.example", "Sec_Fetch_Site": None},
        {"Origin": "null", "Sec_Fetch_Site": None},
        {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": None},
        {"Origin": "http://127.0.0.1", "Sec_Fetch_Site": None},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": ""},
    ],
    ids=str,
)
def test_nobody_acts_without_the_token_or_from_another_site(
    stage: Stage, url: str, headers: dict[str, str | None]
) -> None:
    for what, body in (("retry-now", {"module": "order"}), ("cancel", {"run": str(UUID(int=5))})):
        answer = acted(url, what, body, **headers)
        assert answer.status == 403
        assert answer.data["error"]
    assert stage.done == []


def test_a_name_that_leads_to_this_machine_learns_no_token(url: str) -> None:
    assert get(url, "/actions", host="evil.example").status == 421
    assert acted(url, "retry-now", {"module": "order"}, Host="evil.example", Origin="http://evil.example").status == 421


def test_what_a_form_can_send_does_nothing(stage: Stage, url: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        assert acted(url, "retry-now", {"module": "order"}, Content_Type=kind).status == 415
    assert stage.done == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_an_action_is_a_post(stage: Stage, url: str, method: str) -> None:
    for path in ACTIONS:
        answer = get(url, path, method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert stage.done == []


def test_where_actions_are_off_nothing_is_done_whatever_is_sent(stage: Stage) -> None:
    with web.serve(stage, ":0") as server:
        assert get(server.url, "/actions").data == {"actions": False, "token": None}
        for path in ACTIONS:
            assert post(server.url, path, b'{"module": "order"}', X_Pgflow_Token="None").status == 405
            assert get(server.url, path).status == 405
    assert stage.done == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"order"', b"{}", b'{"module": 1}', b'{"module": "order", "all": true}', b"[" * 4000],
    ids=repr,
)
def test_a_body_that_asks_for_nothing_does_nothing(stage: Stage, url: str, body: bytes) -> None:
    for path in ACTIONS:
        assert post(url, path, body, X_Pgflow_Token=token_of(url)).status == 400
    assert stage.done == []


def test_a_body_that_is_too_long_is_not_read(stage: Stage, url: str) -> None:
    assert acted(url, "retry-now", {"module": "x" * 5000}).status == 413


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "+1", "1_0", "\xb2"])
def test_a_length_that_is_none_is_refused_by_any_server(stage: Stage, length: str) -> None:
    app: Any = Application(stage, ManualClock(), shown=Shown(actions=True))
    said: list[str] = []

    def asked(method: str, path: str, **environ: str) -> bytes:
        return b"".join(
            app({"REQUEST_METHOD": method, "PATH_INFO": path, **environ}, lambda told, _: said.append(told))
        )

    token = json.loads(asked("GET", "/actions"))["token"]
    asked("POST", ACTIONS[0], CONTENT_TYPE="application/json", CONTENT_LENGTH=length, HTTP_X_PGFLOW_TOKEN=token)
    assert [status[:3] for status in said] == ["200", "413"]


def test_what_is_not_there_is_404(stage: Stage, url: str) -> None:
    assert acted(url, "retry-now", {"module": "nobodys"}).status == 404
    for what in ("cancel", "rerun"):
        assert acted(url, what, {"run": str(uuid4())}).status == 404
        assert acted(url, what, {"run": "nonsense"}).status == 404
    assert acted(url, "drop", {"module": "order"}).status == 404


def test_of_a_starter_that_has_ended_nothing_is_done(stage: Stage, url: str) -> None:
    stage.end = StarterStopped("stopped")
    for what, body in (("retry-now", {"module": "order"}), ("cancel", {"run": str(UUID(int=5))})):
        answer = acted(url, what, body)
        assert (answer.status, answer.data["error"]) == (503, "StarterStopped")
    assert stage.done == []


class Failing(Stage):
    """Nothing can be done to its runs, for that."""

    why: PgflowError

    def cancel(self, run_id: UUID, reason: str) -> RunSummary:
        raise self.why

    def rerun(self, run_id: UUID) -> RunSummary:
        raise self.why


@pytest.mark.parametrize(
    ("why", "status"),
    [
        (StarterStopped("stopped meanwhile"), 503),
        (StarterTerminated("gave up meanwhile"), 503),
        (DatabaseError("it hangs"), 503),
        (DatabaseError("permission denied for table runs", sqlstate="42501"), 409),
        (MissingRightsError("role 'x' has no UPDATE"), 409),
        (UnknownFlowError("flow 'order' is not in the database"), 409),
    ],
    ids=repr,
)
def test_what_cannot_be_done_now_is_told_from_what_cannot_be_done(why: PgflowError, status: int) -> None:
    stage = Failing()
    stage.why = why
    with web.serve(stage, ":0", actions=True) as server:
        for what in ("cancel", "rerun"):
            answer = acted(server.url, what, {"run": str(UUID(int=5))})
            assert answer.status == status
            assert str(why) in answer.data.get("reason", answer.data["error"])


def test_what_may_have_been_done_is_logged_as_what_was(caplog: pytest.LogCaptureFixture) -> None:
    stage = Failing()
    stage.why = DatabaseError("it broke", unknown=True)
    with web.serve(stage, ":0", actions=True) as server:
        assert acted(server.url, "rerun", {"run": str(UUID(int=5))}).status == 503
    assert "actions/rerun, asked for by 127.0.0.1, may be done or not: it broke" in caplog.text


def test_the_token_of_one_process_is_none_of_anothers(stage: Stage, url: str) -> None:
    with web.serve(stage, ":0", actions=True) as other:
        answer = acted(url, "retry-now", {"module": "order"}, X_Pgflow_Token=token_of(other.url))
    assert answer.status == 403


def test_runs_are_cancelled_and_done_again(database: str) -> None:
    with running(database, jobs=[echo_job()]) as starter, web.serve(starter, ":0", actions=True) as server:
        starter.await_ready(30)
        waits = starter.client.enqueue("echo", 7, delay=500)
        going_on = acted(server.url, "rerun", {"run": str(waits.id)})
        assert going_on.status == 409
        assert "has not ended" in going_on.data["error"]
        done = acted(server.url, "cancel", {"run": str(waits.id)})
        assert done.data == {"run": str(waits.id), "status": "failed"}
        assert starter.client.run(waits.id).error == "cancelled on the page"
        again = acted(server.url, "rerun", {"run": str(waits.id)}).data
        assert again["run"] == str(waits.id)
        assert starter.client.run(again["new_run"]).wait(30).result == 7
        assert acted(server.url, "retry-now", {"module": "echo"}).status == 200
