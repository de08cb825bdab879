"""All that two databases hold of a flow, in a form in which they can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import psycopg

TABLES = {
    "pgflow.runs": "run_id",
    "pgflow.step_states": "run_id, step_slug",
    "pgflow.step_tasks": "run_id, step_slug, task_index",
    "realtime.events": "id",
}
QUEUE_TABLES = {"pgmq.q_{slug}": "msg_id", "pgmq.a_{slug}": "msg_id"}
BY_THE_CLOCK = ("vt", "last_read_at")
"""Columns that pgmq sets by the clock and not by the transaction's time: no two servers come to the same."""

SINCE_THEN = 5.0
"""Seconds: to that, a message's time until it is visible is the same on both sides."""

EVENTS = """
create table realtime.events
    (id bigint primary key generated always as identity, payload jsonb, event text, topic text);
create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void language sql as
'insert into realtime.events (payload, event, topic) values (payload, event, topic)';
"""
"""Keeps what is sent, in its order."""


def rows(conn: psycopg.Connection[Any], slug: str) -> dict[str, list[Any]]:
    """Every row that there is, by table; times as numbers of their order among all times."""
    tables = {**TABLES, **{name.format(slug=slug): order for name, order in QUEUE_TABLES.items()}}
    found = {
        name: [row[0] for row in conn.execute(f"select to_jsonb(t) from {name} t order by {order}").fetchall()]
        for name, order in tables.items()
    }
    for name, there in found.items():
        for row in there:
            waits = datetime.fromisoformat(row["vt"]).timestamp() - _now(conn) if "vt" in row else 0.0
            for column in BY_THE_CLOCK:
                row.pop(column, None)
            if name.startswith("pgmq.q_"):
                row["waits"] = round(waits / SINCE_THEN)
    found["realtime.events"] = _in_order(found["realtime.events"])
    moments = sorted({datetime.fromisoformat(text) for text in _times(found)})
    return {name: _ranked(there, {moment: n for n, moment in enumerate(moments)}) for name, there in found.items()}


def _now(conn: psycopg.Connection[Any]) -> float:
    row: Any = conn.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    return float(row[0])


def _in_order(events: list[Any]) -> list[Any]:
    """Those of steps that start together in a run come to the core in the order in which its plan finds them."""
    found = list[Any]()
    together = list[Any]()
    for event in [*events, None]:
        alike = event and event["payload"]["event_type"] == "step:started"
        if together and not (alike and event["topic"] == together[0]["topic"]):
            found += sorted(together, key=lambda e: str(e["event"]))
            together = []
        if alike:
            together.append(event)
        elif event:
            found.append(event)
    return [{**event, "id": n} for n, event in enumerate(found)]


def _times(value: Any, key: str = "") -> Iterable[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _times(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _times(inner, key)
    elif isinstance(value, str) and key.endswith("_at"):
        yield value


def _ranked(value: Any, ranks: dict[datetime, int], key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _ranked(inner, ranks, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_ranked(inner, ranks, key) for inner in value]
    return ranks[datetime.fromisoformat(value)] if isinstance(value, str) and key.endswith("_at") else value
