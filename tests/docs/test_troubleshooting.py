"""The page on troubleshooting has the sections that the code names, and what it has a person ask can be asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

import pgflow_starter as pgflow
from pgflow_starter.core.symptoms import PAGE, SYMPTOMS
from tests.support.pages import blocks
from tests.support.programs import ROOT
from tests.support.starters import running

TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
SQL = [block.text for block in blocks(ROOT / PAGE) if block.language == "sql"]

order = pgflow.Flow("order")


@order.step()
def charge(given: object, ctx: pgflow.TaskContext) -> object:
    return given


def test_each_symptom_has_its_section_and_each_section_its_symptom() -> None:
    sections = re.findall(r"(?m)^### (.+)$", TEXT)
    assert sections == [symptom.title for symptom in SYMPTOMS]


def asked(connection: psycopg.Connection[Any], title: str) -> list[dict[str, Any]]:
    """What the first query of that section finds."""
    statement = TEXT.partition(f"\n### {title}\n")[2].partition("```sql\n")[2].partition("```")[0]
    found = connection.cursor(row_factory=dict_row).execute(statement.encode())
    return found.fetchall()


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    """To a database with the flow and a run of it that waits: nobody works there."""
    with running(database, flows=[order]) as starter:
        starter.await_ready(timeout=30)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select pgflow.start_flow('order', '1')")
        yield connection


def test_each_section_says_what_it_means_how_to_confirm_it_and_what_to_do() -> None:
    for title, section in zip(*[iter(re.split(r"(?m)^### (.+)$", TEXT)[1:])] * 2, strict=True):
        asked = section.partition("\n## ")[0]
        assert [word for word in ("**Confirm.**", "**Do.**") if word not in asked] == [], title


def test_there_are_queries() -> None:
    assert len(SQL) >= 8


@pytest.mark.parametrize("statement", SQL, ids=lambda text: text.split("\n")[0])
def test_the_query_can_be_asked(statement: str, database: str) -> None:
    with running(database, jobs=[], flows=[order]) as starter:
        starter.client.start_flow(order, 1).wait(timeout=30)
    with psycopg.connect(database) as connection:
        for single in statement.split(";\n"):
            connection.execute(single.encode())


def test_who_has_a_lock_is_found(database: str, connection: psycopg.Connection[Any]) -> None:
    assert asked(connection, "Locked") == []
    with psycopg.connect(database, application_name="forgotten") as other:
        other.execute("select from pgflow.runs for update")
        (found,) = asked(connection, "Locked")
    assert (found["application_name"], found["state"]) == ("forgotten", "idle in transaction")
    assert "RowShareLock on pgflow.runs" in found["locks"]


def test_tasks_without_a_message_and_messages_without_a_task_are_found(connection: psycopg.Connection[Any]) -> None:
    assert (asked(connection, "Messages lost"), asked(connection, "Unstarted")) == ([], [])
    connection.execute("select pgmq.purge_queue('order')")
    connection.execute("select pgmq.send('order', '{\"by\": \"hand\"}')")
    (lost,), (strange,) = asked(connection, "Messages lost"), asked(connection, "Unstarted")
    assert lost["step_slug"] == "charge"
    connection.execute("select pgmq.archive('order', %s)", (strange["msg_id"],))
    assert asked(connection, "Unstarted") == []


def test_a_deprecated_worker_is_found(connection: psycopg.Connection[Any]) -> None:
    connection.execute("update pgflow.workers set deprecated_at = null")
    assert asked(connection, "Worker deprecated") == []
    connection.execute("update pgflow.workers set deprecated_at = now()")
    assert [found["queue_name"] for found in asked(connection, "Worker deprecated")] == ["order"]


def test_what_is_gone_is_found(connection: psycopg.Connection[Any]) -> None:
    assert None not in asked(connection, "Parts gone")[0].values()
    connection.execute("drop table pgmq.q_order")
    assert [name for name, part in asked(connection, "Parts gone")[0].items() if part is None] == ["queue"]


def test_a_queue_that_does_not_notify_and_rows_that_are_hidden_are_found(connection: psycopg.Connection[Any]) -> None:
    (silent,) = asked(connection, "Not notified")
    assert (silent["tgname"], silent["throttle_interval_ms"]) == (None, None)
    connection.execute("select pgmq.enable_notify_insert('order', 250)")
    (announced,) = asked(connection, "Not notified")
    assert announced["throttle_interval_ms"] == 250
    connection.execute("alter table pgmq.q_order enable row level security")
    assert [str(found["table"]) for found in asked(connection, "Hidden")] == ["pgmq.q_order"]


def test_a_trigger_that_somebody_added_is_found(connection: psycopg.Connection[Any]) -> None:
    before = len(asked(connection, "Statement refused"))
    connection.execute(
        "create trigger mine before update on pgflow.runs execute function suppress_redundant_updates_trigger()"
    )
    assert len(asked(connection, "Statement refused")) == before + 1
