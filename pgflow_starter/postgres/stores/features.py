"""What the pgflow core and the pgmq in a database can do, read from its catalog and never from a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgflow_starter.errors import DatabaseError, NotInstalledError
from pgflow_starter.postgres.connections.connection import Connection

INSTALL = "run `pgflow-starter db install`"

# The arguments of start_tasks with which a claim is made, with the queue and without. More of them must have defaults.
_WITH_QUEUE = ["flow_slug", "msg_ids", "worker_id", "queue_name"]
_WITHOUT_QUEUE = _WITH_QUEUE[:3]

# A text constant of a constraint as the catalog stores it: what would write the constraint out waits for whoever has
# its table locked.
_CANCELLED = " ".join(str(byte) for byte in b"cancelled")


def _callable(schema: str, name: str, given: list[str]) -> str:
    count, names = len(given), ",".join(given)
    return (
        f"exists (select from functions where schema = '{schema}' and name = '{name}' and required <= {count}"
        f" and pg_catalog.array_to_string(arguments[1:{count}], ',') = '{names}')"
    )


# One look into the catalog: schemas, functions by the names of their arguments, columns, and what a task may be.
_DETECT = f"""
with functions as materialized (
    select n.nspname::text as schema, p.proname::text as name,
           coalesce(p.proargnames[1:p.pronargs], '{{}}') as arguments, p.pronargs - p.pronargdefaults as required
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('pgmq', 'pgflow')
), columns as materialized (
    select pg_catalog.concat_ws('.', n.nspname, c.relname, a.attname) as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname in ('pgmq', 'pgflow') and c.relname in ('message_record', 'step_task_record', 'step_tasks')
)
select exists (select from functions where schema = 'pgmq' and name = 'read'),
       exists (select from functions where schema = 'pgflow' and name = 'create_flow'),
       exists (select from functions where schema = 'pgflow' and name = 'add_step' and 'step_type' = any(arguments)),
       array(select pg_catalog.array_to_string(arguments, ', ') from functions
             where schema = 'pgflow' and name = 'start_tasks' order by 1),
       {_callable("pgflow", "start_tasks", _WITH_QUEUE)},
       {_callable("pgflow", "start_tasks", _WITHOUT_QUEUE)},
       {_callable("pgmq", "read", ["queue_name", "vt", "qty", "conditional"])},
       exists (select from functions where schema = 'pgmq' and name = 'enable_notify_insert'),
       exists (select from columns where name = 'pgflow.step_task_record.flow_input'),
       exists (select from functions where schema = 'pgflow' and name = 'mark_worker_stopped'),
       exists (select from functions where schema = 'pgflow' and name = 'requeue_stalled_tasks'),
       exists (select from columns where name = 'pgmq.message_record.headers'),
       exists (select from columns where name = 'pgflow.step_tasks.queue_name'),
       exists (select from pg_catalog.pg_constraint k
               where k.conrelid = pg_catalog.to_regclass('pgflow.step_tasks')::oid and k.contype = 'c'
                 and pg_catalog.strpos(k.conbin::text, '{_CANCELLED}') > 0),
       pg_catalog.current_database()
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Features:
    """What is there.

    `flow_input`: `start_tasks` returns it; `headers`: pgmq's messages have some; `conditional_read`: pgmq's `read`
    takes a condition, too; `claims_by_queue`: `start_tasks` takes the queue; `tasks_have_queues`: a message's id is one
    queue's only, and each task names its queue; `cancels`: tasks may be cancelled or skipped, and what came with that:
    `start_tasks` has a message invisible for as long as its step may take, and stalled tasks are judged by that time,
    too. Else functions.
    """

    notify: bool
    flow_input: bool
    mark_worker_stopped: bool
    requeue_stalled_tasks: bool
    headers: bool
    conditional_read: bool
    claims_by_queue: bool
    tasks_have_queues: bool
    cancels: bool


def detect(conn: Connection) -> Features:
    """Look into the catalog. Raises NotInstalledError naming what is missing and the command that installs it."""
    row: Any = conn.execute(_DETECT).fetchone()
    pgmq, pgflow, maps, claims, by_queue, without, conditional, *rest = row
    notify, flow_input, stopped, requeue, headers, queues, cancels, database = rest
    missing = [name for name, there in (("pgmq", pgmq), ("the pgflow core", pgflow)) if not there]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        msg = f"{' and '.join(missing)} {verb} not installed in database {database!r}; {INSTALL}"
        raise NotInstalledError(msg)
    if not (claims and maps):
        msg = f"the pgflow core in database {database!r} is older than 0.8.1; upgrade it with pgflow's own migrations"
        raise NotInstalledError(msg)
    if not (by_queue or without):
        msg = (
            f"the pgflow core in database {database!r} has a start_tasks that this pgflow-starter cannot call,"
            f" start_tasks({'), start_tasks('.join(claims)}): upgrade pgflow-starter,"
            " or, if the core was patched by hand, apply pgflow's own migrations"
        )
        raise NotInstalledError(msg)
    return Features(
        notify=notify,
        flow_input=flow_input,
        mark_worker_stopped=stopped,
        requeue_stalled_tasks=requeue,
        headers=headers,
        conditional_read=conditional,
        claims_by_queue=by_queue,
        tasks_have_queues=queues,
        cancels=cancels,
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
        features = self._features
        return self.anew(conn) if features is None else features

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
