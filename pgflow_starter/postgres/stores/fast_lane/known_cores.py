"""Which cores the fast lane stands in for: by what their functions and tables are, never by a version."""

from __future__ import annotations

from typing import Any, NamedTuple

from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.fast_lane.dialects import OUTPUTS_IN_STEPS, OUTPUTS_IN_TASKS, Dialect

_FUNCTIONS = (
    "_archive_task_message",
    "_cascade_force_skip_steps",
    "calculate_retry_delay",
    "cascade_complete_taskless_steps",
    "cascade_resolve_conditions",
    "complete_task",
    "fail_task",
    "maybe_complete_run",
    "set_vt_batch",
    "start_flow",
    "start_ready_steps",
    "start_tasks",
)
"""Those that it stands in for, with all that they call in the core."""

_TABLES = ("deps", "flows", "runs", "step_states", "step_tasks", "steps")

# `prosrc` as it is, and all else that decides what a call does; of the tables the columns with their defaults, and the
# names of the constraints: what a constraint says can only refuse, and what is refused goes to the core's functions.
_LOOK = """
with function as materialized (
    select p.oid, p.proname::text as name, p.xmin::text as version,
           pg_catalog.md5(pg_catalog.concat_ws('|', p.proname, p.proargnames::text, p.proretset, p.prosecdef,
               p.proconfig::text, l.lanname, p.prosrc)) as digest
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    join pg_catalog.pg_language l on l.oid = p.prolang
    where n.nspname = 'pgflow' and p.proname = any(%(functions)s::text[])
), relation as materialized (
    select c.oid, c.relname::text as name, c.xmin::text as version, c.relkind, c.relrowsecurity, c.relhasrules,
           c.relhassubclass or c.relispartition as inherits
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'pgflow' and c.relname = any(%(tables)s::text[])
)
select (select pg_catalog.md5(pg_catalog.string_agg(digest, ',' order by digest)) from function),
       (select pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws('|', r.name, a.attname, a.attnotnull,
                   pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.pg_get_expr(d.adbin, d.adrelid)),
                   ',' order by r.name, a.attnum))
        from relation r
        join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
        left join pg_catalog.pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum),
       (select pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws('|', r.name, k.conname, k.contype), ','
                   order by r.name, k.conname, k.contype))
        from relation r join pg_catalog.pg_constraint k on k.conrelid = r.oid
        where k.contype in ('c', 'f', 'p', 'u', 'x')),
       array(select pg_catalog.concat_ws(' ', 'trigger', t.tgname, 'on', r.name)
             from relation r join pg_catalog.pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
             union all select 'row level security on ' || name from relation where relrowsecurity
             union all select 'rules on ' || name from relation where relhasrules
             union all select 'partitions of ' || name from relation where inherits or relkind <> 'r'
             order by 1),
       (select pg_catalog.string_agg(version, ',' order by oid) from function),
       (select pg_catalog.string_agg(version, ',' order by oid) from relation)
"""

# By names that are in its text, so that a plan for any parameters costs no more than one for these.
_NAMES = ", ".join(f"'{name}'" for name in _FUNCTIONS)
_REGCLASSES = ", ".join(f"'pgflow.{name}'" for name in _TABLES)

GUARD = f"""
(select pg_catalog.string_agg(p.xmin::text, ',' order by p.oid) from pg_catalog.pg_proc p
 where p.pronamespace = 'pgflow'::regnamespace::oid and p.proname = any(array[{_NAMES}]::name[]))
    = %(lane_functions_were)s
and (select pg_catalog.string_agg(c.xmin::text, ',' order by c.oid) from pg_catalog.pg_class c
     where c.oid = any(array[{_REGCLASSES}]::regclass[]::oid[])) = %(lane_tables_were)s
and not exists (select from pg_catalog.pg_trigger t
                where t.tgrelid = any(array[{_REGCLASSES}]::regclass[]::oid[]) and not t.tgisinternal)
"""  # noqa: S608 - constants
"""Whether all is as it was when it was looked at: in each statement, for DDL comes at any time."""

UNCHANGED = f"select {GUARD}"
"""The same by itself."""

PROVEN = {
    (
        "27665de1da9c77323295af3e91d15cc1",
        "898866ed8aa45f703da5e3c5d8c91d53",
        "1dc48ca629342b5d70fefeb66797e164",
    ): ("0.8.1", OUTPUTS_IN_TASKS),
    (
        "c8b71a7b340d43fe4a44c9082ed85389",
        "1a7a4405db13efdb75d82ccd25806ea6",
        "1b37e1c3288e84e9ce9b31bc140f9cbc",
    ): ("0.14.1", OUTPUTS_IN_STEPS),
    (
        "0fcf3334930c8ab949edae00be319a8d",
        "1a7a4405db13efdb75d82ccd25806ea6",
        "1b37e1c3288e84e9ce9b31bc140f9cbc",
    ): ("0.15.1", OUTPUTS_IN_STEPS),
}
"""The cores on which histories of random flows came to the same rows by both: the digests of their functions, columns
and constraints."""


class Core(NamedTuple):
    """A core that is known: `guard` are the parameters of `GUARD`."""

    version: str
    dialect: Dialect
    guard: dict[str, Any]


def digests(conn: Connection) -> tuple[str, str, str]:
    """What the core there is has to be listed by, once it is proven. Raises psycopg's errors."""
    functions, columns, constraints = _row(conn)[:3]
    return functions, columns, constraints


def look(conn: Connection) -> Core | str:
    """The core there is, or why the fast lane is off for it. Raises psycopg's errors."""
    row = _row(conn)
    proven = PROVEN.get(tuple(row[:3]))
    if proven is None:
        return "this core's functions or tables are none that it was proven to equal"
    if row[3]:
        return f"there is more on the core's tables than the core: {', '.join(row[3])}"
    return Core(*proven, {"lane_functions_were": row[4], "lane_tables_were": row[5]})


def _row(conn: Connection) -> Any:
    return conn.execute(_LOOK, {"functions": list(_FUNCTIONS), "tables": list(_TABLES)}).fetchone()
