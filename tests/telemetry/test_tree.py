"""The whole trace of a start, as a golden file. To write it anew: PGFLOW_WRITE_GOLDEN=1, and read the difference."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from tests.support.starters import echo_job, running
from tests.telemetry.heard import Heard
from tests.telemetry.tree import told

GOLDEN = Path(__file__).parent / "golden"

# The counter of a sequence outlives the transactions that the trigger ends.
_REFUSE_TWICE = """
create sequence public.refusals;
create function refuse() returns trigger language plpgsql as $$
begin
    if new.flow_slug = 'flaky' and nextval('public.refusals') <= 2 then
        raise 'not now' using errcode = '40001';
    end if;
    return new;
end $$;
create trigger refuse before insert on pgflow.flows for each row execute function refuse();
"""


def test_the_trace_of_a_start_with_a_failing_module(database: str, heard: Heard) -> None:
    with psycopg.connect(database) as conn:
        conn.execute(_REFUSE_TWICE)
    with running(
        database,
        flows=["nowhere.to.be:found"],
        jobs=[echo_job("steady"), echo_job("flaky")],
        signal_strategy="notify",
        **heard.settings,
    ) as starter:
        starter.await_ready(20)
        heard.await_spans("pgflow.starter ready")
    assert_golden("failing_start.txt", told(heard))


def assert_golden(name: str, text: str) -> None:
    """The text is that of the file."""
    path = GOLDEN / name
    if os.environ.get("PGFLOW_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
