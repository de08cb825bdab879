"""What the pgflow core and the pgmq in a database can do, read from its catalog and never from a version."""

from __future__ import annotations

from pgflow_starter.core.dataclass import dataclass
from pgflow_starter.errors import NotInstalledError
from pgflow_starter.postgres.connection import Connection

INSTALL_HINT = "run: pgflow-starter db install --dsn '…'"

# One look into the catalog: schemas, functions and columns that differ between the cores in use.
_DETECT = """
select to_regnamespace('pgmq') is not null and to_regproc('pgmq.read') is not null as pgmq,
       to_regnamespace('pgflow') is not null and to_regproc('pgflow.create_flow') is not null as pgflow,
       exists (select from pg_proc where pronamespace = to_regnamespace('pgflow')::oid and proname = 'start_tasks')
           as start_tasks,
       exists (select from pg_proc p where p.pronamespace = to_regnamespace('pgflow')::oid and p.proname = 'add_step'
               and 'step_type' = any(p.proargnames)) as maps,
       exists (select from pg_proc
               where pronamespace = to_regnamespace('pgmq')::oid and proname = 'enable_notify_insert')
           as notify,
       exists (select from pg_class c join pg_attribute a on a.attrelid = c.oid
               where c.relnamespace = to_regnamespace('pgflow')::oid and c.relname = 'step_task_record'
               and a.attname = 'flow_input' and not a.attisdropped) as flow_input,
       exists (select from pg_proc
               where pronamespace = to_regnamespace('pgflow')::oid and proname = 'mark_worker_stopped')
           as mark_worker_stopped,
       exists (select from pg_proc
               where pronamespace = to_regnamespace('pgflow')::oid and proname = 'requeue_stalled_tasks')
           as requeue_stalled_tasks,
       exists (select from pg_class c join pg_attribute a on a.attrelid = c.oid
               where c.relnamespace = to_regnamespace('pgmq')::oid and c.relname = 'message_record'
               and a.attname = 'headers' and not a.attisdropped) as headers,
       current_database()
"""


@dataclass(frozen=True, slots=True)
class Features:
    """What is there. `flow_input`: `start_tasks` returns it; `headers`: pgmq's messages have some; else functions."""

    notify: bool
    flow_input: bool
    mark_worker_stopped: bool
    requeue_stalled_tasks: bool
    headers: bool


def detect(conn: Connection) -> Features:
    """Look into the catalog. Raises NotInstalledError naming what is missing and the command that installs it."""
    row = conn.execute(_DETECT).fetchone()
    assert row is not None
    pgmq, pgflow, start_tasks, maps, notify, flow_input, mark_worker_stopped, requeue, headers, database = row
    missing = [name for name, there in (("pgmq", pgmq), ("the pgflow core", pgflow)) if not there]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        msg = f"{' and '.join(missing)} {verb} not installed in database {database!r}; {INSTALL_HINT}"
        raise NotInstalledError(msg)
    if not (start_tasks and maps):
        msg = f"the pgflow core in database {database!r} is older than 0.8.1; upgrade it with pgflow's own migrations"
        raise NotInstalledError(msg)
    return Features(bool(notify), bool(flow_input), bool(mark_worker_stopped), bool(requeue), bool(headers))
