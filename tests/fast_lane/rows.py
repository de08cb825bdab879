"""All that two databases hold, in a form in which they can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import zip_longest
from typing import Any

import psycopg

TABLES = {
    "pgflow.runs": "run_id",
    "pgflow.step_states": "run_id, step_slug",
    "pgflow.step_tasks": "run_id, step_slug, task_index",
    "realtime.events": "id",
    "pgmq.q_{slug}": "msg_id",
    "pgmq.a_{slug}": "msg_id",
}
BY_THE_CLOCK = ("vt", "last_read_at")
"""Columns that pgmq sets by the clock and not by the transaction's time: no two servers come to the same."""

SINCE_THEN = 1.5
"""Seconds: to that, a message's time until it is visible is the same on both sides."""

AT_ONCE = ("step:started", "step:skipped")
"""Events of several steps of a run that come to the core in the order in which its plan finds them."""

ANY_MAP = re.compile(r"Map step \w+ expects")
"""Which of several maps the core names that cannot take an output is the one that its plan finds first."""

EVENTS = """
create table realtime.events
    (id bigint primary key generated always as identity, payload jsonb, event text, topic text);
create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void language sql as
'insert into realtime.events (payload, event, topic) values (payload, event, topic)';
"""
"""Keeps what is sent, in its order."""


# Queue rows with how long they wait from now on.
_ROW = {
    "pgmq.q_{slug}": "to_jsonb(t) || jsonb_build_object('waits', extract(epoch from t.vt - clock_timestamp()))",
}


def rows(conn: psycopg.Connection[Any], slug: str) -> dict[str, list[Any]]:
    """Every row that there is, by table; times as numbers of their order among all times."""
    parts = [
        f"(select coalesce(jsonb_agg({_ROW.get(name, 'to_jsonb(t)')} order by {order}), '[]') from {name} t)"
        for name, order in TABLES.items()
    ]
    row: Any = conn.execute(f"select {', '.join(parts)}".format(slug=slug)).fetchone()
    found: dict[str, list[Any]] = dict(zip(TABLES, row, strict=True))
    for there in found.values():
        for each in there:
            for column in BY_THE_CLOCK:
                each[column] = each.get(column) is not None
    found["realtime.events"] = _in_order(found["realtime.events"])
    moments = sorted({datetime.fromisoformat(text) for text in _times(found)})
    ranks = {moment.isoformat(): n for n, moment in enumerate(moments)}
    return {name: _ranked(there, ranks) for name, there in found.items()}


def differences(by_functions: dict[str, list[Any]], by_the_lane: dict[str, list[Any]]) -> list[str]:
    """A line for each row that is not the same."""
    found = list[str]()
    for name in TABLES:
        for one, other in zip_longest(by_functions[name], by_the_lane[name]):
            if one != other and not _alike(one, other):
                found.append(f"{name}\n  by the core's functions: {one}\n  by the fast lane:        {other}")
    return found


def _alike(one: Any, other: Any) -> bool:
    """But for how long they wait, and by not much."""
    if not one or not other or "waits" not in one:
        return False
    return abs(one["waits"] - other["waits"]) < SINCE_THEN and {**one, "waits": 0} == {**other, "waits": 0}


def _in_order(events: list[Any]) -> list[Any]:
    """Those of `AT_ONCE` in the order of their steps."""
    found = list[Any]()
    together = list[Any]()
    for event in [*events, None]:
        kind = (event["topic"], event["payload"]["event_type"]) if event else None
        if together and kind != (together[0]["topic"], together[0]["payload"]["event_type"]):
            found += sorted(together, key=lambda e: str(e["event"]))
            together = []
        if kind and kind[1] in AT_ONCE:
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


def _ranked(value: Any, ranks: dict[str, int], key: str = "") -> Any:
    if key == "error_message" and isinstance(value, str):
        return ANY_MAP.sub("Map step of several expects", value)
    if isinstance(value, dict):
        return {name: _ranked(inner, ranks, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_ranked(inner, ranks, key) for inner in value]
    return ranks[datetime.fromisoformat(value).isoformat()] if isinstance(value, str) and key.endswith("_at") else value
