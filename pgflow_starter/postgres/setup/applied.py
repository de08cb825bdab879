"""Which of pgflow's migrations a database has had: by Supabase's table of them, by a note on the schema, or by its
functions and columns."""

from __future__ import annotations

import re
from typing import NamedTuple

from psycopg import sql

from pgflow_starter.postgres.setup import book
from pgflow_starter.postgres.setup.admin import Connection
from pgflow_starter.postgres.setup.migrations import is_published

# What a core consists of, as far as a migration changes it, and nobody else should: settings and rights are left aside,
# for `db install` and administrators change those; constraints and indexes for what the server makes of their text.
_DIGEST = """
select pg_catalog.md5(pg_catalog.string_agg(line, ';' order by line collate "C")) from (
    select pg_catalog.concat_ws('|', 'function', p.proname, p.proargnames::text, l.lanname, p.prosrc,
               (select pg_catalog.string_agg(pg_catalog.format_type(a.type, null), ',' order by a.n)
                from pg_catalog.unnest(p.proargtypes) with ordinality as a (type, n))) as line
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    join pg_catalog.pg_language l on l.oid = p.prolang
    where n.nspname = 'pgflow'
    union all
    select pg_catalog.concat_ws('|', 'column', c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname = 'pgflow' and c.relkind in ('r', 'c')
) as parts
"""

_KNOWN = {
    "ba8bff77c618821d0296acf626b6e6f2": "20251104080523_pgflow_upgrade_pgmq_1_5_1",
    "c4838fd426c30f33d5df13acf437283c": "20251130000000_pgflow_auto_compilation",
    "161c70983fc22bbd35e473a52cd92d1d": "20251209074533_pgflow_worker_management",
    "de57d7ae1460c878548e517a7ba4b8b4": "20251212100113_pgflow_allow_data_loss_parameter",
    "b526e30f2bb7fd26ce8ebc8c4dedadf8": "20251225163110_pgflow_add_flow_input_column",
    "8a37b48fa69933456e43dd0b2331df28": "20260103145141_pgflow_step_output_storage",
    "c010e60fbe6dd77b8f57bc5a4f6b485a": "20260120205547_pgflow_requeue_stalled_tasks",
    "b5a6c6c1be195b3f6efc43e2e11ff4c6": "20260124113408_pgflow_auth_secret_support",
    "319d06d13bec8ed18153f0fa560f8a78": "20260214181656_pgflow_step_conditions",
    "2f88d0d02f982e35be766206554c52df": "20260607175525_pgflow_worker_start_mode",
    "2fb8dffbd26e29f087911aca9d3501a9": "20260904095427_pgflow_task_lifecycle_hardening",
}
"""By its digest, the last migration of each state from 0.8.1 to 0.15.1."""

_COMMENT = "select pg_catalog.obj_description(pg_catalog.to_regnamespace('pgflow'), 'pg_namespace')"
_NOTE = re.compile(r"^pgflow-starter: migrated to (\d{14}_\w+)(?: \[([0-9a-f]{32})\])?$", re.MULTILINE)


class Applied(NamedTuple):
    """The last migration that a database has had, how that is known, and, where Supabase keeps book, all of them."""

    last: str
    by: str
    names: frozenset[str] | None = None


def look(connection: Connection) -> Applied | None:
    """What the database has had; None where that is not known. Raises psycopg's errors."""
    claim, seen = _claim(connection), _KNOWN.get(_digest(connection))
    if claim is None:
        return Applied(seen, "its functions and columns") if seen else None
    return None if _is_belied(claim, seen) else claim


def unknown(connection: Connection) -> str:
    """What to tell whoever asks where `look` gave None."""
    if claim := _claim(connection):
        return (
            f"{claim.by} says that this database has had {claim.last}, but its functions and columns are those that"
            f" {_KNOWN[_digest(connection)]} left: see what was applied, then set right the one that is wrong"
        )
    found = _NOTE.search(_comment(connection))
    what = (
        f"the comment on schema pgflow says {found[1]}, but functions or columns were changed since"
        if found
        else "no comment of ours is on schema pgflow, and its functions and columns are none that are known here"
    )
    return (
        f"which of pgflow's migrations this database has had is not known: {what}. Whoever knows the last one says"
        " its whole name, COMMENT ON SCHEMA pgflow IS 'pgflow-starter: migrated to 2..._pgflow_...', and tries again"
    )


def _claim(connection: Connection) -> Applied | None:
    """What Supabase's table says, else the comment."""
    kept = book.read(connection)
    if kept and kept.names:
        return Applied(max(kept.names), "Supabase's table of migrations", kept.names)
    found = _NOTE.search(_comment(connection))
    if found and found[2] in (None, _digest(connection)):
        return Applied(found[1], "the comment on schema pgflow")
    return None


def _is_belied(claim: Applied, seen: str | None) -> bool:
    """Whether the core is as another migration left it. Each one that was published leaves it otherwise; what others
    have made may change neither functions nor columns."""
    return seen is not None and seen != claim.last and is_published(claim.last)


def note(connection: Connection, last: str) -> None:
    """Have the database know that this was its last: in the same transaction, else it would be said of another state.

    What others have written on the schema stays. Raises psycopg's errors.
    """
    line = f"pgflow-starter: migrated to {last} [{_digest(connection)}]"
    others = _NOTE.sub("", _comment(connection)).strip()
    comment = f"{others}\n{line}" if others else line
    connection.execute(sql.SQL("comment on schema pgflow is {}").format(sql.Literal(comment)))


def _comment(connection: Connection) -> str:
    row = connection.execute(_COMMENT).fetchone()
    return str(row[0] or "") if row else ""


def _digest(connection: Connection) -> str:
    row = connection.execute(_DIGEST).fetchone()
    return str(row[0]) if row else ""
