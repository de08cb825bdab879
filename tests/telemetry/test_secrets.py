"""No password, no token, no message in anything that is told, whatever fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from opentelemetry.sdk.metrics.export import MetricsData
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from tests.support.starters import await_state, running
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard

WAIT = 20.0
PASSWORD = "Pa55-w0rd"
TOKEN = "t0k3n-0f-m1n3"

# As a trigger of somebody's own might: its words show the row that it refuses.
_REFUSE = """
create function public.refuse() returns trigger language plpgsql as $$
begin
    raise 'refused: %', coalesce(new.output::text, new.error_message, 'nothing')
        using detail = (select input::text from pgflow.runs where run_id = new.run_id), errcode = '23514';
end $$;
create trigger refuse before update on pgflow.step_tasks for each row
when (new.status in ('completed', 'failed') and new.step_slug = 'refused') execute function public.refuse();
create function public.refuse_run() returns trigger language plpgsql as $$
begin
    raise 'refused: %', new.input::text using errcode = '22023';
end $$;
create trigger refuse_run before insert on pgflow.runs for each row
when (new.flow_slug = 'unwanted') execute function public.refuse_run();
"""


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Every line that anybody logs, with its traceback and as JSON."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    plain, as_json = logging.Formatter("%(name)s %(message)s"), pgflow.JsonFormatter()

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.extend((plain.format(record), as_json.format(record)))

    handler = Keeping()
    logging.getLogger().addHandler(handler)
    yield told
    logging.getLogger().removeHandler(handler)


def _everything(heard: Heard, lines: list[str]) -> str:
    spans = [span.to_json() for span in heard.spans()]
    records = [record.to_json() for record in heard.events()]
    data = heard.reader.get_metrics_data()
    assert isinstance(data, MetricsData)
    return "\n".join([*spans, *records, data.to_json(), *lines])


def test_of_messages_nothing_is_told_whatever_becomes_of_them(database: str, heard: Heard, lines: list[str]) -> None:
    with psycopg.connect(database) as conn:
        conn.execute(_REFUSE)

    @pgflow.job("quoting", max_attempts=2, base_delay=0)
    def quoting(message: Any, ctx: pgflow.TaskContext) -> Any:
        raise ValueError(f"bad input: {message}")

    @pgflow.job("refused")
    def refused(message: Any, ctx: pgflow.TaskContext) -> Any:
        return message

    @pgflow.job("odd", max_attempts=1)
    def odd(message: Any, ctx: pgflow.TaskContext) -> Any:
        return {message["token"]: object()}

    @pgflow.job("unwanted")
    def unwanted(message: Any, ctx: pgflow.TaskContext) -> Any:
        return message

    with running(database, jobs=[quoting, refused, odd, unwanted], log_errors="type", **heard.settings) as starter:
        starter.await_ready(WAIT)
        given = {"token": TOKEN}
        for job in (quoting, odd):
            assert starter.client.enqueue(job, given).wait(WAIT).status == "failed"
        starter.client.enqueue(refused, given)
        eventually(lambda: any("23514" in line for line in lines))
        with pytest.raises(pgflow.PgflowError, match="refused"):
            starter.client.enqueue(unwanted, given)
        heard.await_spans("send unwanted")
        everything = _everything(heard, lines)
    for told in ("process quoting", "ValueError", "process refused", "send unwanted", "22023", "23514"):
        assert told in everything
    assert TOKEN not in everything + "\n".join(lines)


def test_a_password_that_a_handler_raised_is_told_by_nobody(database: str, heard: Heard, lines: list[str]) -> None:
    conninfo = make_conninfo(database, password=PASSWORD)

    @pgflow.job("leaks", max_attempts=1)
    def leaks(message: Any, ctx: pgflow.TaskContext) -> Any:
        try:
            raise RuntimeError(f"cannot reach postgresql://me:{PASSWORD}@db/shop")
        except RuntimeError as error:
            raise ValueError(f"bad input: {message}") from error

    with running(conninfo, jobs=[leaks], **heard.settings) as starter:
        assert starter.client.enqueue(leaks, "ada").wait(WAIT).status == "failed"
        heard.await_spans("process leaks")
        everything = _everything(heard, lines)
    assert "postgresql://me:***@db/shop" in everything
    assert "ValueError: bad input: ada" in everything
    assert PASSWORD not in everything + "\n".join(lines)


def test_of_passwords_nothing_is_told_whatever_fails(
    server: Any, database: str, heard: Heard, lines: list[str]
) -> None:
    class Leaks:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            raise RuntimeError(f"cannot reach postgresql://me:{PASSWORD}@db/shop")

    refused = make_conninfo("host=127.0.0.1 port=1 connect_timeout=1", password=PASSWORD)
    mistaken = f"postgresql://me:{PASSWORD}@at@127.0.0.1:1/shop?connect_timeout=1"
    works = make_conninfo(database, password=PASSWORD)
    for conninfo, strategy in ((refused, "notify"), (mistaken, "notify"), (works, "notify"), (works, "polling")):
        job = pgflow.job("echo")(lambda message, ctx: message)
        with running(conninfo, flows=[Leaks], jobs=[job], signal_strategy=strategy, **heard.settings) as starter:
            await_state(starter, "echo", lambda s: s.attempts > 1 or s.status.terminal)
            await_state(starter, Leaks, lambda s: s.status.terminal)
            everything = _everything(heard, lines)
        assert PASSWORD not in everything + "\n".join(lines) + str(starter)
    assert "postgresql://me:***@db/shop" in "\n".join(lines)
