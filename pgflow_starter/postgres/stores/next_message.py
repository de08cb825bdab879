"""What a claim says of the messages that it did not find: when it is worth while to look again."""

from __future__ import annotations

from functools import cache

from psycopg import sql

SOON = 1.0
"""Seconds ahead, for so many is looked by a claim that found something and less than it wanted."""

# From the statement's beginning on: what became visible meanwhile was perhaps not read. And up to a moment ahead only
# where claims are many: in the index of visibility there are, for as long as tasks may take, those that were done, and
# the next one may lie behind all of them. Seconds are subtracted, not times: before PostgreSQL 17 an infinite one fails
# that.
_VISIBLE_IN = """
       case when m.n = 0 then (select extract(epoch from min(vt)) - extract(epoch from clock_timestamp())
                               from pgmq.{queue} where vt > statement_timestamp())
            when m.n < %(quantity)s::integer
            then coalesce((select extract(epoch from min(vt)) - extract(epoch from clock_timestamp())
                           from pgmq.{queue}
                           where vt > statement_timestamp()
                             and vt < statement_timestamp() + pg_catalog.make_interval(secs => {soon}::float8)),
                          {soon})
       end"""


@cache
def visible_in(queue: str) -> sql.Composed:
    """To be selected: `Claimed.visible_in` of a claim from that queue which found `m.n` messages."""
    return sql.SQL(_VISIBLE_IN).format(queue=sql.Identifier(f"q_{queue}"), soon=sql.Literal(SOON))
