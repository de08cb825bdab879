"""The headers of messages, with which a trace context travels.

pgflow sends messages without headers. Those of a run that was just started get theirs in the same transaction; the
messages of the steps that follow have none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.postgres.connections.connection import Connection

logger = logging.getLogger("pgflow_starter.client")

# pgmq before 1.5 has none.
_HAS_HEADERS = """
select exists (select from pg_attribute
               where attrelid = to_regclass('pgmq.' || quote_ident(%s))::oid and attname = 'headers'
               and not attisdropped)
"""
_SET = """
update pgmq.{queue} set headers = coalesce(headers, '{{}}') || %s::jsonb
where msg_id in (select message_id from pgflow.step_tasks where run_id = any(%s::uuid[]))
"""


def set_headers(conn: Connection, slug: str, run_ids: Sequence[UUID], headers: str) -> None:
    """Add them, a JSON object, to the messages of runs that this transaction has started. Blocks on I/O.

    Where that may not be, by a role without UPDATE say, the runs are started all the same.
    """
    try:
        with conn.transaction():
            if conn.execute(_HAS_HEADERS, (f"q_{slug}",)).fetchone() == (True,):
                conn.execute(_set_statement(slug), (headers, [str(run_id) for run_id in run_ids]))
    except (psycopg.DataError, psycopg.ProgrammingError) as error:
        logger.debug("%s: no trace context on messages: %s", slug, error)


@cache
def _set_statement(slug: str) -> str:
    return sql.SQL(_SET).format(queue=sql.Identifier(f"q_{slug}")).as_string()
