"""What a role needs for flows to run, and what of it a role has not: written down once, looked up in the catalog.

Sequences are not among it: those of pgmq's queues belong to identity columns, which ask for no right of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, TypeAlias

import psycopg

from pgflow_starter.core.text import one_line
from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.connections.connection import Connection

Use: TypeAlias = Literal["work", "start", "compile", "notify"]
"""What a right is for: a worker's work, which no worker does without; starting runs; making flows that are not stored;
having a queue notify."""
Kind: TypeAlias = Literal["DATABASE", "SCHEMA", "TABLE", "FUNCTION"]

SCHEMAS: Mapping[Use, Mapping[str, str]] = {
    "work": {"pgflow": "USAGE", "pgmq": "USAGE", "realtime": "USAGE"},
    "compile": {"pgmq": "CREATE"},
}
"""A queue is two tables in pgmq, which belong to who makes them."""

TABLES: Mapping[Use, Mapping[str, str]] = {
    "work": {
        "pgflow.flows": "SELECT",
        "pgflow.steps": "SELECT",
        "pgflow.deps": "SELECT",
        "pgflow.runs": "SELECT, UPDATE",
        "pgflow.step_states": "SELECT, UPDATE",
        "pgflow.step_tasks": "SELECT, INSERT, UPDATE",
        "pgflow.workers": "SELECT, INSERT, UPDATE",
        "pgmq.meta": "SELECT",
    },
    "start": {"pgflow.runs": "INSERT", "pgflow.step_states": "INSERT"},
    "compile": {
        "pgflow.flows": "INSERT, UPDATE",
        "pgflow.steps": "INSERT, UPDATE",
        "pgflow.deps": "INSERT",
        "pgmq.meta": "INSERT",
    },
    "notify": {"pgmq.notify_insert_throttle": "SELECT, INSERT, UPDATE, DELETE"},
}
QUEUE_TABLES: Mapping[Use, Mapping[str, str]] = {
    "work": {"q": "SELECT, INSERT, UPDATE, DELETE", "a": "SELECT, INSERT"},
    "notify": {"q": "TRIGGER"},
}
"""Of each flow's queue, by the prefix of its table: what waits, and the archive."""

_THROTTLE = ("pgmq", "notify_insert_throttle", "SELECT, UPDATE", "work")
"""By the trigger of a queue that notifies, when a message is sent there."""

FUNCTIONS: Mapping[Use, Sequence[str]] = {
    "work": (
        "pgflow.start_tasks",
        "pgflow.complete_task",
        "pgflow.fail_task",
        "pgflow.mark_worker_stopped",
        "pgmq.read",
        "pgmq.archive",
    ),
    "start": ("pgflow.start_flow",),
    "compile": ("pgflow.create_flow", "pgflow.add_step", "pgflow.is_valid_slug"),
    "notify": ("pgmq.acquire_queue_lock", "pgmq.enable_notify_insert", "pgmq.notify_queue_listeners"),
}
"""Those that we call. What they call with the caller's rights is needed as well, and found in their bodies."""

ALL_USES: tuple[Use, ...] = ("work", "start", "compile", "notify")
WORK_USES: tuple[Use, ...] = ("work", "start")
"""Without those that let a role have code of its own run by others: in functions of pgmq's schema, in triggers."""

_ARCHIVING: set[tuple[Use, str, str]] = {("work", "q", "DELETE"), ("work", "a", "SELECT"), ("work", "a", "INSERT")}
_IN_BODIES: Sequence[tuple[Sequence[str], set[tuple[Use, str, str]]]] = (
    (
        ("pgflow.start_tasks", "pgflow.complete_task", "pgflow.fail_task"),
        {
            ("work", "pgflow.step_tasks", "INSERT"),
            ("work", "pgflow.step_states", "UPDATE"),
            ("work", "q", "INSERT"),
            *_ARCHIVING,
        },
    ),
    (("pgmq.archive",), {*_ARCHIVING}),
    (("pgflow.start_flow",), {("start", "pgflow.runs", "INSERT"), ("start", "pgflow.step_states", "INSERT")}),
    (
        ("pgflow.create_flow", "pgflow.add_step"),
        {
            ("compile", "pgmq", "CREATE"),
            ("compile", "pgflow.flows", "INSERT"),
            ("compile", "pgflow.flows", "UPDATE"),
            ("compile", "pgflow.steps", "INSERT"),
            ("compile", "pgflow.steps", "UPDATE"),
            ("compile", "pgflow.deps", "INSERT"),
            ("compile", "pgmq.meta", "INSERT"),
        },
    ),
)
"""What only these functions do: where all of them have their owner's rights, nobody else needs it."""

_HARMLESS = {("work", "pgflow.deps", "SELECT"), ("work", "pgflow.step_tasks", "INSERT"), ("work", "q", "INSERT")}
"""What a flow of one step does not do: row level security of it is told by what fails, in flows that do."""

# Of a role: each right on what is there, whether the role has it, and whether row level security refuses it for
# certain: it is in force, and no policy for this command is for the role. Who has a right on some column only is
# believed to have those that count.
_RIGHTS = """
with who as materialized (
    select oid, rolsuper or rolbypassrls as sees_all from pg_catalog.pg_roles
    where rolname::text = coalesce(%(role)s::text, current_user::text)
), relations as materialized (
    select c.*, n.nspname, g.privileges, g.use, g.slug,
           pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
           c.relrowsecurity and not who.sees_all
           and (c.relforcerowsecurity or not pg_catalog.pg_has_role(who.oid, c.relowner, 'USAGE')) as secured
    from who, unnest(%(schemas)s::text[], %(tables)s::text[], %(privileges)s::text[], %(uses)s::text[],
                     %(slugs)s::text[]) as g (schema, name, privileges, use, slug)
    join pg_catalog.pg_namespace n on n.nspname::text = g.schema
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = g.name::name
    where g.name <> 'notify_insert_throttle' or g.slug is null or exists (
        select from pg_catalog.pg_class q join pg_catalog.pg_trigger t on t.tgrelid = q.oid
        join pg_catalog.pg_proc f on f.oid = t.tgfoid
        where q.relnamespace = n.oid and q.relname = ('q_' || pg_catalog.lower(g.slug))::name
          and t.tgname = 'trigger_notify_queue_insert_listeners' and t.tgenabled in ('O', 'A') and not f.prosecdef)
), found as (
    select 'TABLE' as kind, pg_catalog.format('%%I.%%I', r.nspname, r.relname) as target, privilege, r.use, r.slug,
           case when %(single)s and privilege in ('SELECT', 'INSERT', 'UPDATE')
                then pg_catalog.has_any_column_privilege(who.oid, r.oid, privilege)
                else pg_catalog.has_table_privilege(who.oid, r.oid, privilege) end as granted,
           r.secured and privilege <> 'TRIGGER' and not exists (
               select from pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) as o (oid)
               where p.polrelid = r.oid and p.polpermissive
                 and p.polcmd::text in ('*', case privilege when 'SELECT' then 'r' when 'INSERT' then 'a'
                                       when 'UPDATE' then 'w' else 'd' end)
                 and case o.oid when 0::oid then true
                     else pg_catalog.pg_has_role(who.oid, o.oid, 'USAGE') end) as hidden, r.owner
    from who, relations r, pg_catalog.unnest(pg_catalog.string_to_array(r.privileges, ', ')) as p (privilege)
    union all
    select 'SCHEMA', pg_catalog.quote_ident(n.nspname), g.privilege, g.use, null,
           pg_catalog.has_schema_privilege(who.oid, n.oid, g.privilege), false,
           pg_catalog.pg_get_userbyid(n.nspowner)::text
    from who, unnest(%(in_schemas)s::text[], %(schema_privileges)s::text[], %(schema_uses)s::text[])
        as g (name, privilege, use)
    join pg_catalog.pg_namespace n on n.nspname::text = g.name
    union all
    select 'DATABASE', pg_catalog.quote_ident(d.datname), 'CONNECT', 'work', null,
           pg_catalog.has_database_privilege(who.oid, d.oid, 'CONNECT'), false,
           pg_catalog.pg_get_userbyid(d.datdba)::text
    from who, pg_catalog.pg_database d
    where d.datname = pg_catalog.current_database() and 'work' = any(%(asked)s::text[])
      and not pg_catalog.has_database_privilege('public', d.oid, 'CONNECT')
)
select kind, target, privilege, use, slug, granted, hidden, owner from found where %(all)s or not granted or hidden
order by kind, target, privilege
"""
# Whether there is a function in these schemas that PUBLIC may not call. Of those with their owner's rights only the
# ones that we call ourselves count. No access list: PUBLIC may. Cheaper on a fresh session than asking for each.
_CLOSED = """
select exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = any(array(select oid from pg_catalog.pg_namespace
                                     where nspname in ('pgflow', 'pgmq', 'realtime')))
      and p.proacl is not null and (not p.prosecdef or p.proname::text = any(%s::text[]))
      and not exists (select from pg_catalog.aclexplode(p.proacl) where grantee = 0::oid))
"""
# Of the needed functions those that PUBLIC may not call. What a function names with its schema outside of comments, it
# calls; what one with its owner's rights calls is the owner's business. Where there are several of one name, only one
# of which the role may call, that one may be it.
_FUNCTIONS = """
with recursive functions as materialized (
    select p.oid, n.nspname, p.proname, n.nspname::text || '.' || p.proname::text as name,
           pg_catalog.regexp_replace(pg_catalog.regexp_replace(
               pg_catalog.lower(p.prosrc), '--[^\n]*', ' ', 'g'), '/[*].*?[*]/', ' ', 'g') as body,
           p.prosecdef, p.proowner
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('pgflow', 'pgmq', 'realtime')
), called as (
    select f.*, g.use
    from functions f join unnest(%(functions)s::text[], %(uses)s::text[]) as g (name, use) using (name)
    union
    select f.*, c.use from called c join functions f
        on not c.prosecdef and pg_catalog.strpos(c.body, f.name || '(') > 0
)
select distinct on (f.oid) 'FUNCTION',
       pg_catalog.format('%%I.%%I(%%s)', f.nspname, f.proname, pg_catalog.pg_get_function_identity_arguments(f.oid)),
       'EXECUTE', f.use, null, pg_catalog.has_function_privilege(who.oid, f.oid, 'EXECUTE'), false,
       pg_catalog.pg_get_userbyid(f.proowner)::text
from called f, pg_catalog.pg_roles who
where who.rolname::text = coalesce(%(role)s::text, current_user::text)
  and not pg_catalog.has_function_privilege('public', f.oid, 'EXECUTE')
  and (%(all)s or not exists (select from called o
                              where o.name = f.name and pg_catalog.has_function_privilege(who.oid, o.oid, 'EXECUTE')))
order by f.oid, f.use desc
"""
_WITH_CALLERS_RIGHTS = """
select n.nspname::text || '.' || p.proname::text
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('pgflow', 'pgmq') and not p.prosecdef
"""
_IS_STORED = """
select exists (select from pgflow.flows f join pgmq.meta m on m.queue_name::text = f.flow_slug where f.flow_slug = %s)
"""
_ROLE = """
select rolname, pg_catalog.quote_ident(rolname) from pg_catalog.pg_roles
where rolname::text = coalesce(%s::text, current_user::text)
"""
MENTIONED = 3
"""Objects that one message names; `db grant` names them all."""


@dataclass(frozen=True, slots=True)
class Right:
    """One right on one thing, named as SQL does; `slug` of whose queue it is. `hidden`: row level security refuses it
    for certain. `owner`: of the thing."""

    kind: Kind
    target: str
    privilege: str
    use: Use
    slug: str | None
    granted: bool
    hidden: bool
    owner: str

    @property
    def key(self) -> tuple[Use, str, str]:
        """What is needed for what, of every queue's table alike."""
        is_queues = self.slug is not None and self.target.startswith(("pgmq.q_", "pgmq.a_", 'pgmq."'))
        return self.use, self.target.removeprefix("pgmq.").strip('"')[0] if is_queues else self.target, self.privilege


def role_of(conn: Connection, name: str | None = None) -> tuple[str, str] | None:
    """The role of that name (None: who asks) as it is and as SQL quotes it; None where there is none."""
    row: tuple[str, str] | None = conn.execute(_ROLE, (name,)).fetchone()  # type: ignore[assignment]
    return row


def slugs(conn: Connection) -> list[str]:
    """Those of all flows that are stored."""
    return [str(row[0]) for row in conn.execute("select flow_slug from pgflow.flows order by 1").fetchall()]


def missing(
    conn: Connection,
    uses: Sequence[Use],
    slugs: Sequence[str] = (),
    *,
    role: str | None = None,
    whole: bool = False,
) -> list[Right]:
    """The rights that the role (None: who asks) surely needs and has not, on what is there; on `whole` tables, or else
    on some column. Raises psycopg's errors.

    Two queries of some milliseconds, a third where functions are closed to PUBLIC, and one where something is missing.
    """
    lacking = _rights(conn, uses, slugs, role, every=False, whole=whole)
    if not lacking:
        return []
    callers = {str(row[0]) for row in conn.execute(_WITH_CALLERS_RIGHTS).fetchall()}
    owners = {key for functions, keys in _IN_BODIES if callers.isdisjoint(functions) for key in keys}
    return [right for right in lacking if right.key not in owners]


def needed(conn: Connection, uses: Sequence[Use], slugs: Sequence[str], role: str) -> list[Right]:
    """All that the role needs on what is there, on whole tables, but for what everybody has: functions, CONNECT.

    Raises psycopg's errors.
    """
    return _rights(conn, uses, slugs, role, every=True, whole=True)


def refuse_missing(conn: Connection, rights: Sequence[Right]) -> None:
    """Raise MissingRightsError naming them and what mends them, where there are some."""
    if rights:
        role = role_of(conn)
        assert role is not None
        raise MissingRightsError(told(rights, *role))


def refuse_denied(conn: Connection, error: psycopg.Error, uses: Sequence[Use], slug: str | None) -> NoReturn:
    """Raise MissingRightsError for what the server has just refused: what is missing, else what it names.

    Rights to compile are not missing for a flow that is stored.
    """
    slugs = [slug] if slug else []
    uses = [use for use in uses if use != "compile" or not _is_stored(conn, slug)]
    refuse_missing(conn, missing(conn, uses, slugs))
    said = one_line(error.diag.message_primary or str(error))
    lacking = missing(conn, uses, slugs, whole=True)
    named = [right for right in lacking if right.target.rpartition(".")[2].strip('"') in said] or lacking
    role = role_of(conn)
    if not named or role is None:
        msg = f"{said}: no right on it that a worker needs was found missing; one on single columns does not do"
        raise MissingRightsError(msg)
    raise MissingRightsError(f"{said}, and rights on single columns of it do not do: {told(named, *role)}")


def _is_stored(conn: Connection, slug: str | None) -> bool:
    try:
        return conn.execute(_IS_STORED, (slug,)).fetchone() == (True,)
    except psycopg.errors.InsufficientPrivilege:  # it is that right that is missing
        return True


def told(rights: Sequence[Right], name: str, quoted: str) -> str:
    """In one line: what is missing for the role, and the statements that mend it."""
    problems = problems_of(rights, name, quoted)
    more = len(problems) - MENTIONED
    rest = [f"and {more} more such"] if more > 0 else []
    hint = f"(all that a worker needs: pgflow-starter db grant {one_line(quoted)})"
    return f"{'; '.join([*problems[:MENTIONED], *rest])} {hint}"


def problems_of(rights: Sequence[Right], name: str, quoted: str) -> list[str]:
    """Each with its remedy, in a line."""
    granting = [
        one_line(
            f"role {name!r} has no {privileges} on {kind.lower()} {target}:"
            f" GRANT {privileges} ON {kind} {target} TO {quoted}"
        )
        for privileges, kind, target in by_target(r for r in rights if not r.granted)
    ]
    return granting + hidden_problems(rights, name, quoted)


def hidden_problems(rights: Sequence[Right], name: str, quoted: str) -> list[str]:
    """Those that no GRANT mends."""
    return [
        one_line(
            f"row level security of {target} has no policy that lets role {name!r} {privileges}:"
            f" ALTER TABLE {target} DISABLE ROW LEVEL SECURITY, or CREATE POLICY for it,"
            f" or ALTER ROLE {quoted} BYPASSRLS"
        )
        for privileges, _, target in by_target(r for r in rights if r.hidden)
    ]


def by_target(rights: Iterable[Right]) -> list[tuple[str, Kind, str]]:
    """Privileges, kind and target, once for each target."""
    found: dict[tuple[Kind, str], dict[str, None]] = {}
    for right in rights:
        found.setdefault((right.kind, right.target), {})[right.privilege] = None
    return [(", ".join(privileges), kind, target) for (kind, target), privileges in found.items()]


def _rights(
    conn: Connection, uses: Sequence[Use], slugs: Sequence[str], role: str | None, *, every: bool, whole: bool
) -> list[Right]:
    tables = [
        (*table.split("."), privileges, use, None) for use in uses for table, privileges in TABLES.get(use, {}).items()
    ]
    tables += [
        ("pgmq", f"{prefix}_{slug.lower()}", privileges, use, slug)
        for use in uses
        for prefix, privileges in QUEUE_TABLES.get(use, {}).items()
        for slug in slugs
    ]
    if "work" in uses:
        tables += [(*_THROTTLE, slug) for slug in ([None] if every else slugs)]
    schemas = [(name, privilege, use) for use in uses for name, privilege in SCHEMAS.get(use, {}).items()]
    given: dict[str, Any] = {"role": role, "all": every, "single": not whole, "asked": list(uses)}
    given |= _columns(("schemas", "tables", "privileges", "uses", "slugs"), tables)
    given |= _columns(("in_schemas", "schema_privileges", "schema_uses"), schemas)
    rows: list[Any] = conn.execute(_RIGHTS, given).fetchall()
    rows += _closed_functions(conn, uses, role, every=every)
    rights = [Right(*row) for row in rows]
    rights = [replace(r, hidden=False) if r.hidden and r.key in _HARMLESS else r for r in rights]
    return rights if every else [right for right in rights if not right.granted or right.hidden]


def _closed_functions(conn: Connection, uses: Sequence[Use], role: str | None, *, every: bool) -> list[Any]:
    functions = [(name, use) for use in uses for name in FUNCTIONS[use]]
    names = [name.partition(".")[2] for name, _ in functions]
    if conn.execute(_CLOSED, (names,)).fetchone() != (True,):
        return []
    given = _columns(("functions", "uses"), functions)
    return conn.execute(_FUNCTIONS, {"role": role, "all": every, **given}).fetchall()


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
