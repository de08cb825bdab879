"""The words of a query: what they ask for, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_starter import web
from pgflow_starter.core.views import Place, RunsWanted
from pgflow_starter.web.looks import Shown
from pgflow_starter.web.words import place_text, runs_wanted
from tests.web.client import get
from tests.web.stage import Stage

RUN = UUID(int=20)


def wanted(query: str) -> RunsWanted:
    return runs_wanted({"QUERY_STRING": query})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", RunsWanted()),
        ("status=&flow=&since=&after=", RunsWanted()),
        ("status=failed&status=started&status=failed", RunsWanted(frozenset({"failed", "started"}))),
        ("flow=order_2&limit=100", RunsWanted(flow="order_2", limit=100)),
        ("since=2026-03-01T12:00:00Z", RunsWanted(since=datetime(2026, 3, 1, 12, tzinfo=UTC))),
        ("until=2026-03-01T12:00:00+00:00", RunsWanted(until=datetime(2026, 3, 1, 12, tzinfo=UTC))),
        ("until=2026-03-01T13:00:00.5%2B01:00", RunsWanted(until=datetime(2026, 3, 1, 12, 0, 0, 500000, UTC))),
        (f"id={RUN}", RunsWanted(id=RUN)),
    ],
)
def test_what_is_asked_for(query: str, expected: RunsWanted) -> None:
    assert wanted(query) == expected


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("stauts=failed", "stauts"),
        ("status=lost", "status"),
        ("flow=a&flow=b", "flow"),
        ("flow=%00", "flow"),
        ("flow=a%20b", "flow"),
        (f"flow={'x' * 200}", "flow"),
        ("since=yesterday", "since"),
        ("since=2026-03-01", "since"),
        ("until=2026-03-01T12:00:00", "until"),
        ("until=99999-01-01T00:00:00Z", "until"),
        ("until=9999-12-31T23:59:59-01:00", "until must be a time that is within the years 1 to 9999 in UTC"),
        ("id=1", "id"),
        ("id=' or 1=1 --", "id"),
        ("after=1", "after"),
        (f"after=999999999999999999.{RUN.hex}", "after"),
        (f"after=1.{RUN}", "after"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e1", "limit"),
        ("limit=%D9%A1", "limit"),
        ("<script>=1", "<script>"),
        (f"x={'y' * 3000}", "longer"),
    ],
)
def test_a_word_that_is_wrong_is_named(query: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        wanted(query)


def test_a_wrong_word_is_a_bad_request_and_asks_nobody() -> None:
    stage = Stage()
    with web.serve(stage, ":0") as server:
        answer = get(server.url, "/runs?status=lost")
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert answer.data == {"error": "status must be one of started, completed, failed, got 'lost'"}
    assert stage.asked == []


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_the_place_of_a_page_is_found_again(began: datetime, run_id: UUID) -> None:
    place = Place(began, run_id)
    assert wanted(urlencode({"after": place_text(place) or ""})).after == place


def test_without_a_next_page_there_is_no_place() -> None:
    assert place_text(None) is None
    assert wanted("").after is None


@given(st.text(max_size=200))
def test_no_query_is_a_fault(query: str) -> None:
    with suppress(ValueError):
        assert wanted(query).limit <= 100


@pytest.mark.parametrize("url", ["javascript:alert(1)//{trace_id}", "https://traces", "traces/{run_id}", ""])
def test_a_template_of_links_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="trace_url must"):
        web.application(Stage(), trace_url=url)


def test_times_are_wanted_to_the_microsecond() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, 1, UTC)
    assert wanted(f"since={at.isoformat()}").since == at
    assert wanted(f"since={(at - timedelta(days=1)).isoformat()}").since == at - timedelta(days=1)
    assert Shown("/traces/{run_id}").trace_url == "/traces/{run_id}"


def test_times_are_asked_for_in_utc_for_the_server_knows_no_fractions_in_an_offset() -> None:
    since = wanted("since=2026-03-01T12:00:00%2B02:00:00.500000").since
    assert since is not None
    assert since.isoformat() == "2026-03-01T09:59:59.500000+00:00"
