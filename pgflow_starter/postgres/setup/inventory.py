"""What a database has of what we need: looked up in its catalog, never concluded from a version."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from pgflow_starter.errors import NotInstalledError
from pgflow_starter.postgres.setup import applied
from pgflow_starter.postgres.setup.admin import Connection, limited, session
from pgflow_starter.postgres.stores import needs, refusals, rights
from pgflow_starter.postgres.stores.fast_lane.known_cores import Core, look
from pgflow_starter.postgres.stores.features import INSTALL, Catalog, detect

_PGMQ_FUNCTIONS = ("archive", "create", "read", "send", "set_vt")
_PGFLOW_FUNCTIONS = (
    "add_step",
    "complete_task",
    "create_flow",
    "fail_task",
    "set_vt_batch",
    "start_flow",
    "start_tasks",
)
# What newer versions have and older ones have not: functions, columns, attributes of types.
_OPTIONAL = (
    "pgflow.claim_tasks",
    "pgflow.ensure_flow_compiled",
    "pgflow.mark_worker_stopped",
    "pgflow.requeue_stalled_tasks",
    "pgflow.step_task_record.flow_input",
    "pgflow.steps.opt_start_delay",
    "pgflow.steps.step_type",
    "pgflow.steps.when_unmet",
    "pgflow.track_worker_function",
    "pgflow.workers.deprecated_at",
    "pgflow.workers.stopped_at",
    "pgmq.acquire_queue_lock",
    "pgmq.create_fifo_index",
    "pgmq.enable_notify_insert",
    "pgmq.message_record.headers",
    "pgmq.send_topic",
)
_STRANGERS = """
select n.nspname::text, o.rolname::text
from pg_catalog.pg_namespace n join pg_catalog.pg_roles o on o.oid = n.nspowner
where n.nspname in ('pgmq', 'pgflow', 'realtime')
  and not o.rolsuper and o.rolname not in (current_user, 'pg_database_owner')
  and o.oid <> (select datdba from pg_catalog.pg_database where datname = pg_catalog.current_database())
order by 1
"""

_OPTIONAL_USES: dict[needs.Use, str] = {"compile": "make new flows", "notify": "have a queue notify"}


@dataclass(frozen=True)
class Inventory:
    """What `check` found. Problems and notes are sentences for a person; `features` are sorted catalog names such as
    `pgflow.requeue_stalled_tasks` (a function) or `pgflow.workers.stopped_at` (a column)."""

    server_version: str
    pgmq: Literal["extension", "sql", "missing"]
    pgmq_version: str | None
    """The extension's version; plain SQL carries none."""
    pgflow: Literal["present", "partial", "missing"]
    features: tuple[str, ...]
    pgmq_problem: str | None
    pgflow_problem: str | None
    notes: tuple[str, ...] = ()
    core: str | None = None
    """The versions of the pgflow core that have what there is: it tells none itself."""
    last_migration: str | None = None
    """The last of pgflow's migrations that the core has had, where that is known."""
    fast_lane: str | None = field(default=None, compare=False)
    """Whether set-based statements may stand in for the core's functions, and why not; None where nothing can run."""
    role: str | None = field(default=None, compare=False)
    """Who asked, where its rights were looked at."""
    rights_problems: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """What keeps flows from running here, with the remedies."""
        return tuple(p for p in (self.pgmq_problem, self.pgflow_problem, *self.rights_problems) if p)

    @property
    def ok(self) -> bool:
        """Whether flows can run here."""
        return not self.missing


def check(conninfo: str) -> Inventory:
    """Look into a database, changing nothing; at the rights of the role that asks, too.

    Takes 20 seconds at most beyond connecting. Raises SetupError, DatabaseError. Safe from any thread.
    """
    with session(conninfo) as connection, limited(connection, 20):
        found = take_inventory(connection)
        return _with_rights(connection, found) if found.ok else found


def _with_rights(connection: Connection, found: Inventory) -> Inventory:
    """Judged as a registration does it."""
    role = rights.role_of(connection)
    assert role is not None
    lacking = rights.missing(connection, needs.ALL_USES)
    unreadable = ("pgflow", "pgflow.flows", "pgflow.steps")
    if not any(r.use == "work" and r.target in unreadable for r in lacking):
        lacking = rights.missing(connection, needs.ALL_USES, rights.queues(connection))
    missing = [right for right in lacking if right.use in needs.WORK_USES]
    if not missing:
        try:
            detect(connection)
        except NotInstalledError as error:
            return replace(found, role=role[0], pgflow_problem=str(error))
    notes = [
        f"this role cannot {cannot}: {refusals.missing_text(optional, *role)}"
        for use, cannot in _OPTIONAL_USES.items()
        if (optional := [right for right in lacking if right.use == use])
    ]
    seen = look(connection)
    return replace(
        found,
        fast_lane=f"on, for core {seen.version}" if isinstance(seen, Core) else f"off: {seen}",
        role=role[0],
        rights_problems=tuple(refusals.problems_of(missing, *role)),
        notes=(*found.notes, *notes),
    )


def strangers(connection: Connection) -> list[str]:
    """The schemas of the core that belong to somebody to whom who asks has not entrusted the database, in sentences."""
    return [
        f"schema {schema} belongs to role {owner!r}, who is no superuser, nor the database's owner, nor who asks, and"
        f" can have code of its own run by whoever works here. See what is in it, then DROP SCHEMA {schema} CASCADE, or"
        f" ALTER SCHEMA {schema} OWNER TO CURRENT_USER"
        for schema, owner in connection.execute(_STRANGERS).fetchall()
    ]


def take_inventory(connection: Connection) -> Inventory:
    """The same over a connection that is there already. Raises psycopg's errors."""
    there = Catalog(connection)
    functions, columns = there.functions, there.columns
    pgmq_lacks = [name for name in _PGMQ_FUNCTIONS if f"pgmq.{name}" not in functions]
    pgflow_lacks = [name for name in _PGFLOW_FUNCTIONS if f"pgflow.{name}" not in functions]
    pgmq: Literal["extension", "sql", "missing"] = "extension" if there.pgmq_extension else "sql"
    if len(pgmq_lacks) == len(_PGMQ_FUNCTIONS):
        pgmq = "missing"
    pgflow: Literal["present", "partial", "missing"] = "missing"
    if there.has_pgflow_schema:
        pgflow = "partial" if "create_flow" in pgflow_lacks else "present"
    had = applied.look(connection) if pgflow == "present" else None
    notes = []
    if pgmq != "missing" and "pgmq.enable_notify_insert" not in functions:
        notes = ["pgmq has no enable_notify_insert: signal_strategy='polling' works, 'notify' needs a newer pgmq"]
    return Inventory(
        server_version=there.server_version,
        pgmq=pgmq,
        pgmq_version=there.pgmq_extension,
        pgflow=pgflow,
        features=tuple(name for name in _OPTIONAL if name in functions | columns),
        pgmq_problem=_pgmq_problem(pgmq, pgmq_lacks, columns),
        pgflow_problem=_pgflow_problem(pgflow, pgflow_lacks),
        notes=(*notes, *strangers(connection)),
        core=_core(there) if pgflow == "present" else None,
        last_migration=had.last if had else None,
    )


def _core(there: Catalog) -> str:
    """By what each version brought, the newest first."""
    if "pgflow.step_tasks.queue_name" in there.columns:
        return "0.17 or later"
    if there.cancels:
        return "0.15.1 to 0.16"
    if "pgflow.steps.when_unmet" in there.columns:
        return "0.14 to 0.15.0"
    if "pgflow.step_task_record.flow_input" in there.columns:
        return "0.12 or 0.13"
    return "0.10 or 0.11" if "pgflow.mark_worker_stopped" in there.functions else "0.8.1 or 0.9"


def _pgmq_problem(pgmq: str, lacks: list[str], columns: set[str]) -> str | None:
    if pgmq == "missing":
        return f"pgmq is not installed: {INSTALL}"
    if lacks:
        return f"pgmq is incomplete, it has no {', '.join(lacks)}: update it to 1.5 or later"
    if "pgmq.message_record.headers" not in columns:
        return "pgmq is older than 1.5, which pgflow needs: ALTER EXTENSION pgmq UPDATE"
    return None


def _pgflow_problem(pgflow: str, lacks: list[str]) -> str | None:
    if pgflow == "missing":
        return f"the pgflow core is not installed: {INSTALL}"
    if pgflow == "partial":
        remedy = f"make sure that it holds nothing of yours, DROP SCHEMA pgflow CASCADE, then {INSTALL}"
        return f"schema pgflow exists without create_flow, as a broken-off installation leaves it: {remedy}"
    if lacks:
        return f"the pgflow core is too old, it has no {', '.join(lacks)}: run `pgflow-starter db upgrade`"
    return None
