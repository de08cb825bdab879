"""A core that is there brought to a newer one: in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.setup import applied, book, core_package
from pgflow_starter.postgres.setup.adapting import Adapted, adapt, look_around
from pgflow_starter.postgres.setup.admin import Connection, limited, session
from pgflow_starter.postgres.setup.applied import Applied
from pgflow_starter.postgres.setup.hardening import harden, is_hardened
from pgflow_starter.postgres.setup.inventory import strangers, take_inventory
from pgflow_starter.postgres.setup.laying_down import STUB, apply, create_realtime_stub, lacks_realtime, lock, source
from pgflow_starter.postgres.setup.migrations import Source, is_published
from pgflow_starter.postgres.setup.ownership import hand_over, mine
from pgflow_starter.postgres.stores.features import INSTALL
from pgflow_starter.postgres.stores.stored_flow import NEIGHBOUR_HEARD
from pgflow_starter.postgres.stores.worker_rows import OURS, STOPPED

LOCKED_WITHIN = 60.0
"""Seconds in which the core's tables have to be had, tried for again and again: who works in them is not held up."""

OURS_HEARD = 60
"""Seconds since its last heartbeat for which a worker of ours may be alive."""

_DENIED = "connect as the owner of schema pgflow, or as a superuser"
_NAMED = 4
_NO_ROLLING = "_pgflow_private_step_queues"

_READ_ONLY = "select pg_catalog.current_setting('transaction_read_only') = 'on'"
_OWNERS = """
select distinct o.rolname::text from (
    select nspowner from pg_catalog.pg_namespace where nspname = 'pgflow'
    union all
    select relowner from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'pgflow'
    union all
    select proowner from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'pgflow'
) as parts (owner)
join pg_catalog.pg_roles o on o.oid = parts.owner
where not pg_catalog.pg_has_role(o.oid, 'usage')
order by 1
"""
# One of ours that has stopped is deprecated where the core knows no other word; another's may work on for as long.
_ALIVE = f"""
select w.function_name, w.queue_name, count(*),
       min(extract(epoch from pg_catalog.clock_timestamp() - w.last_heartbeat_at))::int
from pgflow.workers w
where w.last_heartbeat_at > pg_catalog.clock_timestamp()
        - pg_catalog.make_interval(secs => case when {OURS} then {OURS_HEARD} else {NEIGHBOUR_HEARD} end)
  and not {STOPPED}
  and not ({OURS} and coalesce((pg_catalog.to_jsonb(w) ->> 'deprecated_at')::timestamptz >= w.last_heartbeat_at, false))
group by 1, 2 order by 1, 2
"""  # noqa: S608 - constants
_TABLES = """
select c.oid::regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'pgflow' and c.relkind = 'r' order by 1
"""


class _Plan(NamedTuple):
    """What the database has had, what it is to get, and what keeps it from that, in sentences."""

    core: Source
    found: Applied
    pending: tuple[Adapted, ...]
    entries: book.Entries
    needs_stub: bool
    hindrances: tuple[str, ...]
    workers: tuple[str, ...]

    def lines(self, create: str, apply: str, write: str) -> list[str]:
        """It all, with these words for what is done."""
        lines = [
            f"this database has had pgflow's migrations up to {self.found.last}, by {self.found.by}",
            *(f"passed over {file}: it has no name that pgflow has published" for file in self.core.passed_over),
        ]
        if not self.pending:
            unchanged = "" if self.entries.migrations else ": nothing was changed"
            return [*lines, f"it has all of {self.core.told}{unchanged}", *self.entries.lines(write)]
        if self.needs_stub:
            lines.append(f"{create} {STUB}")
        for adapted in self.pending:
            lines.append(f"{apply} {adapted.migration.name}")
            if not is_published(adapted.migration.name):
                lines.append("  it is newer than this pgflow-starter: try it on a copy of the database first")
            lines += [f"  {told}" for told in adapted.told]
        lines += self.entries.lines(write)
        if self.workers:
            lines.append(
                f"workers are alive: {'; '.join(self.workers)}. Ours look again and go on; a worker of another runtime"
                " has to be of the new core's version"
            )
        return lines


def upgrade(
    conninfo: str,
    *,
    core_version: str | None = None,
    core_dir: Path | None = None,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[str, ...]:
    """Apply the core's migrations that the database has not had, all in one transaction; the names of those applied.

    They are those of a version of the npm package, the newest unless it is named, or in a folder. What the database
    has had is known by Supabase's table of migrations, else by the comment that `install` and this write on the schema,
    else by the catalog; where it is by none, nothing is done. What Supabase's
    table has not of those in a folder is written there.

    `progress` gets a sentence per step, in the caller's thread, once it is committed; with `dry_run` what would be
    done, and nothing is. Takes 4 minutes at most for the download, 1 minute for the lock of other installations, 1
    minute for the core's tables, 1 hour for each migration. Raises SetupError, DatabaseError, and then nothing was
    changed. Safe from any thread and process.
    """
    if core_version is None and core_dir is None:
        core_version = core_package.latest()
    core = source(core_version, core_dir)
    with session(conninfo, denied=_DENIED) as connection:
        # Whatever the role's default: what another installation commits while we wait has to be seen.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        with limited(connection, 60):
            if dry_run:
                plan = _plan(connection, core)
                for line in plan.lines("would create", "would apply", "would write"):
                    progress(line)
                _refuse(plan.hindrances)
                return ()
            lock(connection)
            plan = _plan(connection, core)
            _refuse(plan.hindrances)
            if plan.pending:
                _lock_tables(connection)
                plan = _plan(connection, core)  # who began to work in between, or applied some without our lock
                _refuse(plan.hindrances)
            if plan.pending:
                _carry_out(connection, plan)
            book.write(connection, plan.entries.migrations)
    for line in plan.lines("created", "applied", "wrote"):
        progress(line)
    if plan.pending:
        progress(f"upgraded the pgflow core to {core.last}")
        progress("roles that were granted their rights by `pgflow-starter db grant`: grant them again, for what is new")
    return tuple(adapted.migration.name for adapted in plan.pending)


def _plan(connection: Connection, core: Source) -> _Plan:
    """Raises SetupError where there is nothing to upgrade, or no way from it to this core."""
    inventory = take_inventory(connection)
    if inventory.pgflow != "present":
        raise SetupError(inventory.pgflow_problem or f"the pgflow core is not installed: {INSTALL}")
    found = applied.look(connection)
    if found is None:
        raise SetupError(f"nothing was changed: {applied.unknown(connection)}")
    _refuse_where_no_way_leads(found, core)
    there = look_around(connection)
    pending = tuple(adapt(migration, there) for migration in core.migrations if migration.name > found.last)
    entries = book.entries(connection, core)
    hindrances = _hindrances(connection, core) if pending or entries.migrations else []
    workers, needs_stub = list[str](), False
    if pending and not hindrances:  # else they might not be looked at
        workers = _alive(connection)
        needs_stub = lacks_realtime(connection)
    if workers and any(adapted.migration.name.endswith(_NO_ROLLING) for adapted in pending):
        why = "the core from 0.17 on does not work with workers that began before: stop them, and wait for those killed"
        hindrances = [f"{why}. Alive are {'; '.join(workers)}"]
    return _Plan(core, found, pending, entries, needs_stub, tuple(hindrances), tuple(workers))


def _alive(connection: Connection) -> list[str]:
    rows = connection.execute(_ALIVE).fetchall()
    named = [
        f"{count} of {one_line(function, 60)!r} on queue {one_line(queue, 60)!r}, heard {age} s ago"
        for function, queue, count, age in rows[:_NAMED]
    ]
    return [*named, f"and those of {len(rows) - _NAMED} functions more"] if len(rows) > _NAMED else named


def _refuse_where_no_way_leads(found: Applied, core: Source) -> None:
    """From what the database has had to this core."""
    had = f"this database has had {found.last} (by {found.by})"
    if found.last > core.last:
        raise SetupError(
            f"nothing was changed: {had}, and {core.told} goes to {core.last} only: no core is ever taken back. Restore"
            " a backup, or take a newer core"
        )
    if found.last not in core.names:
        raise SetupError(f"nothing was changed: {had}, which {core.told} does not have: they are not of one line")
    if found.names is None:
        return
    if gaps := sorted(name for name in core.names - found.names if name < found.last):
        raise SetupError(f"nothing was changed: {had}, but not {', '.join(gaps)}: apply what is missing first")
    if core.is_package and found.last < core.last:
        raise SetupError(
            "nothing was changed: Supabase keeps book of this database's migrations, and would apply these once more:"
            " have `npx pgflow install` copy them into the project, and name its folder, --core-dir supabase/migrations"
        )


def _hindrances(connection: Connection, core: Source) -> list[str]:
    found = strangers(connection)
    if connection.execute(_READ_ONLY).fetchone() == (True,):
        found.append("this server, or this role's sessions, are read-only: connect to the primary")
    if owners := [repr(row[0]) for row in connection.execute(_OWNERS).fetchall()]:
        found.append(f"this role is not the owner of what is in schema pgflow, role {', '.join(owners)} is: {_DENIED}")
    if not_written := book.hindrance(connection, core):
        found.append(not_written)
    return found


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise SetupError(f"nothing was changed: {'; '.join(reasons)}")


def _lock_tables(connection: Connection) -> None:
    """All of them at once, before anything is done: one after the other they would be held from whoever works with
    two of them, and be had never."""
    clock = SystemClock()
    give_up = clock.monotonic() + LOCKED_WITHIN
    tables = sql.SQL(", ").join(sql.SQL(row[0]) for row in connection.execute(_TABLES).fetchall())
    while True:
        try:
            with connection.transaction():
                connection.execute("set local lock_timeout to '200ms'")
                connection.execute(sql.SQL("lock table {} in access exclusive mode").format(tables))
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if clock.monotonic() > give_up:
                raise DatabaseError(
                    f"nothing was changed: somebody has had the core's tables in use for {LOCKED_WITHIN:g} s: stop the"
                    " workers, or end what has a transaction open (pg_stat_activity tells), and try again",
                    sqlstate=error.sqlstate,
                    error_type=type(error).__name__,
                ) from None
            connection.execute("select pg_catalog.pg_sleep(0.1)")


def _carry_out(connection: Connection, plan: _Plan) -> None:
    was_hardened = is_hardened(connection, "pgflow")
    connection.execute("set local lock_timeout to '10s'")
    connection.execute("set local statement_timeout to '1h'")
    if plan.needs_stub:
        create_realtime_stub(connection)
    was_mine = mine(connection)
    apply(connection, plan.pending)
    if was_hardened:
        harden(connection, "pgflow")
    hand_over(connection, was_mine)
    applied.note(connection, plan.core.last)
