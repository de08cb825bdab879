"""What happens in the shop: an hour in which all went well, then a bank, a mailbox and a process that is gone."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.request import urlopen
from uuid import UUID

import psycopg
from psycopg import sql

import pgflow_starter as pgflow
from tests.support.waiting import eventually

WAIT = 120.0
QUEUES = ("process_order", "send_email", "restock", "nightly_report")
WRONG = ["queue_stuck", "step_failing", "step_retrying"]
CUSTOMERS, EVERY = 9, 9.0
"""One each so many seconds, so that the plots of the page come to show what is wrong."""

# Their order in time stays; the more, the later the hour.
_AN_HOUR = """
with done as (select msg_id, row_number() over (order by archived_at, msg_id) as n from pgmq.{archive}),
times as (select now() - interval '58 min' * (1 - sqrt(random())) as at from done),
ordered as (select at, row_number() over (order by at) as n from times)
update pgmq.{archive} a set archived_at = o.at from done d join ordered o using (n) where a.msg_id = d.msg_id
"""


def an_hour(client: pgflow.PgflowClient, conninfo: str) -> None:
    """Work that is done, spread over the hour before this moment."""
    eventually(lambda: all(client.workers_alive(slug) for slug in QUEUES), WAIT, "a worker of each queue")
    client.start_flows("process_order", [order(n) for n in range(130)])
    client.enqueue_many("send_email", [{"to": n} for n in range(500)])
    client.enqueue_many("restock", [{"pieces": n} for n in range(120)])
    client.enqueue("nightly_report")
    with psycopg.connect(conninfo, autocommit=True) as admin:
        open_runs = "select 1 from pgflow.runs where status = 'started' limit 1"
        eventually(lambda: admin.execute(open_runs).fetchone() is None, WAIT, "the end of the hour's work")
        admin.execute("select setseed(0.5)")
        for queue in QUEUES:
            admin.execute(sql.SQL(_AN_HOUR).format(archive=sql.Identifier(f"a_{queue}")))


def order(number: int, *, card: str = "good", recount: bool = False) -> dict[str, Any]:
    """What `process_order` is given."""
    lines = [{"pieces": 1 + number % 3, "cents": 1900}, {"pieces": 2, "cents": 450, "recount": recount}]
    return {"customer": "ada" if number % 4 else "lin", "card": card, "lines": lines}


def things_go_wrong(client: pgflow.PgflowClient, url: str) -> UUID:
    """Until the page at `url` tells of all of it, and business goes on; the run that was tried most, which is found
    there among others."""
    client.enqueue_many("restock", [{"pieces": n} for n in range(14)])
    client.enqueue_many("send_email", [{"to": n, "full": n in (7, 21)} for n in range(40)])
    tried = client.start_flow("process_order", order(0, card="expired", recount=True))
    trade(client)
    tried.wait(WAIT)
    eventually(lambda: sorted(problems_at(url)) == WRONG, WAIT, "all that is wrong on the page, and nothing else")
    client.start_flows("process_order", [order(n) for n in range(3)])
    return tried.id


def trade(client: pgflow.PgflowClient) -> None:
    """Customers, of whom every other one has a card that the bank does not take."""
    never = threading.Event()
    for number in range(CUSTOMERS):
        client.start_flow("process_order", order(number, card="expired" if number % 2 else "good"))
        client.enqueue("send_email", {"to": number})
        never.wait(EVERY)


def problems_at(url: str) -> list[str]:
    """The kinds that the page tells of."""
    with urlopen(f"{url}/problems", timeout=10) as answer:
        return [problem["kind"] for problem in json.load(answer)["problems"]]
