"""What the pgflow core and the pgmq in a database can do, read from its catalog and never from a version; and what goes
by that: the parts of a task store, and statements on the table of a queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from pgflow_starter.errors import DatabaseError, NotInstalledError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.queues import Queue, Queues

INSTALL = "run `pgflow-starter db install`"

# The arguments of start_tasks with which a claim is made, with the queue and without. More of them must have defaults.
_WITH_QUEUE = ["flow_slug", "msg_ids", "worker_id", "queue_name"]
_WITHOUT_QUEUE = _WITH_QUEUE[:3]

# A text constant of a constraint as the catalog stores it: what would write the constraint out waits for whoever has
# its table locked.
_CANCELLED = " ".join(str(byte) for byte in b"cancelled")

# One look into the catalog: functions with the names of their arguments and how many of them must be given, columns of
# tables and attributes of types, whether a task may be cancelled, and the server.
_CATALOG = f"""
with relations as materialized (
    select c.oid, pg_catalog.concat_ws('.', n.nspname, c.relname) as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('pgmq', 'pgflow')
      and c.relname in ('message_record', 'step_task_record', 'step_tasks', 'steps', 'workers')
)
select (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                   pg_catalog.concat_ws('.', n.nspname, p.proname),
                   coalesce(p.proargnames[1:p.pronargs], '{{}}'), p.pronargs - p.pronargdefaults))
        from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('pgmq', 'pgflow')),
       array(select pg_catalog.concat_ws('.', r.name, a.attname)
             from relations r join pg_catalog.pg_attribute a on a.attrelid = r.oid
             where a.attnum > 0 and not a.attisdropped),
       exists (select from relations r join pg_catalog.pg_constraint k on k.conrelid = r.oid
               where r.name = 'pgflow.step_tasks' and k.contype = 'c'
                 and pg_catalog.strpos(k.conbin::text, '{_CANCELLED}') > 0),
       exists (select from pg_catalog.pg_namespace where nspname = 'pgflow'),
       (select extversion from pg_catalog.pg_extension where extname = 'pgmq'),
       pg_catalog.current_setting('server_version'), pg_catalog.current_database()
"""  # noqa: S608 - a constant


class Catalog:
    """What is there, looked up at once. Raises psycopg's errors."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        row: Any = conn.execute(_CATALOG).fetchone()
        self._signatures: list[tuple[str, list[str], int]] = row[0] or []
        self.functions = {name for name, _, _ in self._signatures}
        self.columns = set[str](row[1])
        self.cancels: bool = row[2]
        self.has_pgflow_schema: bool = row[3]
        self.pgmq_extension: str | None = row[4]
        self.server_version, self.database = str(row[5]), str(row[6])

    def arguments(self, function: str) -> list[list[str]]:
        """The names of the arguments of each function of that name."""
        return sorted(arguments for name, arguments, _ in self._signatures if name == function)

    def takes(self, function: str, given: list[str]) -> bool:
        """Whether it can be called with these arguments alone, in that order."""
        count = len(given)
        return any(f == function and must <= count and a[:count] == given for f, a, must in self._signatures)


class Features(NamedTuple):
    """What is there.

    `flow_input`: `start_tasks` returns it; `headers`: pgmq's messages have some; `conditional_read`: pgmq's `read`
    takes a condition, too; `dates_reads`: it notes when it has read a message; `claims_by_queue`: `start_tasks` takes
    the queue; `tasks_have_queues`: a message's id is one queue's only, and each task names its queue; `cancels`: tasks
    may be cancelled or skipped, and what came with that: `start_tasks` has a message invisible for as long as its step
    may take, and stalled tasks are judged by that time, too; `conditions`: `add_step` takes them. Else functions.
    """

    notify: bool
    flow_input: bool
    mark_worker_stopped: bool
    requeue_stalled_tasks: bool
    headers: bool
    conditional_read: bool
    dates_reads: bool
    claims_by_queue: bool
    tasks_have_queues: bool
    cancels: bool
    conditions: bool


def detect(conn: Connection) -> Features:
    """Look into the catalog. Raises NotInstalledError naming what is missing and the command that installs it."""
    there = Catalog(conn)
    needed = {"pgmq": "pgmq.read", "the pgflow core": "pgflow.create_flow"}
    missing = [what for what, function in needed.items() if function not in there.functions]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        msg = f"{' and '.join(missing)} {verb} not installed in database {there.database!r}; {INSTALL}"
        raise NotInstalledError(msg)
    core, claims = f"the pgflow core in database {there.database!r}", there.arguments("pgflow.start_tasks")
    if not claims or not any("step_type" in arguments for arguments in there.arguments("pgflow.add_step")):
        msg = f"{core} is older than 0.8.1; run `pgflow-starter db upgrade`"
        raise NotInstalledError(msg)
    by_queue = there.takes("pgflow.start_tasks", _WITH_QUEUE)
    if not by_queue and not there.takes("pgflow.start_tasks", _WITHOUT_QUEUE):
        told = "), start_tasks(".join(", ".join(arguments) for arguments in claims)
        msg = (
            f"{core} has a start_tasks that this pgflow-starter cannot call, start_tasks({told}):"
            " upgrade pgflow-starter, or, if the core was patched by hand, apply pgflow's own migrations"
        )
        raise NotInstalledError(msg)
    return Features(
        notify="pgmq.enable_notify_insert" in there.functions,
        flow_input="pgflow.step_task_record.flow_input" in there.columns,
        mark_worker_stopped="pgflow.mark_worker_stopped" in there.functions,
        requeue_stalled_tasks="pgflow.requeue_stalled_tasks" in there.functions,
        headers="pgmq.message_record.headers" in there.columns,
        conditional_read=there.takes("pgmq.read", ["queue_name", "vt", "qty", "conditional"]),
        dates_reads="pgmq.message_record.last_read_at" in there.columns,
        claims_by_queue=by_queue,
        tasks_have_queues="pgflow.step_tasks.queue_name" in there.columns,
        cancels=there.cancels,
        conditions=any("required_input_pattern" in given for given in there.arguments("pgflow.add_step")),
    )


class Detected:
    """What `detect` found, until it is forgotten. To a running worker the schema being away is an outage like any
    other: so it raises DatabaseError for that, and psycopg's errors. Thread-safe."""

    def __init__(self) -> None:
        self._features: Features | None = None

    @property
    def known(self) -> bool:
        """Whether it was looked at."""
        return self._features is not None

    def __call__(self, conn: Connection) -> Features:
        """It, looked at the first time."""
        return self._features or self.anew(conn)

    def anew(self, conn: Connection) -> Features:
        """The same, looked at in any case."""
        self._features = None
        try:
            features = self._features = detect(conn)
        except NotInstalledError as error:
            raise DatabaseError(str(error), error_type=type(error).__name__) from error
        return features

    def forget(self) -> None:
        """The core may have been replaced under us."""
        self._features = None


class StorePart:
    """A part of a task store: a Database, and what the core and the pgmq in it were found to do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._detected = Detected()
        self._queues = Queues()

    def _queues_of(self, conn: Connection, slugs: Sequence[str]) -> Mapping[str, tuple[Queue, ...]]:
        return self._queues.of(conn, slugs, has_some=self._detected(conn).tasks_have_queues)

    def _rows(self, statement: str, parameters: Any) -> list[Any]:
        return self._database.call(lambda conn: conn.execute(statement, parameters).fetchall())


@cache
def on_queue(statement: str, queue: str, features: Features | None = None) -> str:
    """The statement on the table of that queue, whose name pgmq has in small letters.

    `features` where it has `{of_queue}`.
    """
    parts = {} if features is None else {"of_queue": of_queue(features)}
    return sql.SQL(statement).format(queue=sql.Identifier(f"q_{queue.lower()}"), **parts).as_string()


def of_queue(features: Features) -> sql.SQL:
    """Of a task `t`: that it is the queue's, where tasks have queues; there the index is of queue and message."""
    return sql.SQL(" and t.queue_name = %(queue)s" if features.tasks_have_queues else "")


def queue_column(features: Features) -> str:
    """Of a task `t`: the name of its queue."""
    return "t.queue_name" if features.tasks_have_queues else "t.flow_slug"
