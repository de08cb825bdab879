"""What of that which a role needs it has not, looked up in the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores import needs
from pgflow_starter.postgres.stores.needs import Kind, Use
from pgflow_starter.postgres.stores.row_security import REFUSED, WHO

# Of a role: each right on what is there, whether the role has it, and whether row level security refuses it for
# certain. Who has a right on some column only is believed to have those that count.
_RIGHTS = f"""
with {WHO}, relations as materialized (
    select c.*, n.nspname, g.privileges, g.use, g.slug,
           pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
           {REFUSED} as refused
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
           coalesce(privilege = any(r.refused), false) as hidden, r.owner
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
"""  # noqa: S608 - constants
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
_ROLE = """
select rolname, pg_catalog.quote_ident(rolname) from pg_catalog.pg_roles
where rolname::text = coalesce(%s::text, current_user::text)
"""


# Whole rows, for older cores have queues for no steps.
_QUEUES = """
select distinct case when pg_catalog.to_jsonb(f) ->> 'queue_mode'::text = 'step'
                     then pg_catalog.to_jsonb(s) ->> 'queue_name'::text else f.flow_slug end
from pgflow.flows f left join pgflow.steps s on s.flow_slug = f.flow_slug order by 1
"""


class Right(NamedTuple):
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


def queues(conn: Connection) -> list[str]:
    """Those of all flows that are stored."""
    return [str(row[0]) for row in conn.execute(_QUEUES).fetchall()]


def missing(
    conn: Connection, uses: Sequence[Use], slugs: Sequence[str] = (), *, role: str | None = None, whole: bool = False
) -> list[Right]:
    """The rights that the role (None: who asks) surely needs and has not, on what is there; on `whole` tables, or else
    on some column. Raises psycopg's errors.

    Two queries of some milliseconds, a third where functions are closed to PUBLIC, and one where something is missing.
    """
    lacking = _rights(conn, uses, slugs, role, every=False, whole=whole)
    if not lacking:
        return []
    callers = {str(row[0]) for row in conn.execute(_WITH_CALLERS_RIGHTS).fetchall()}
    owners = {key for functions, keys in needs.IN_BODIES if callers.isdisjoint(functions) for key in keys}
    return [right for right in lacking if right.key not in owners]


def needed(conn: Connection, uses: Sequence[Use], slugs: Sequence[str], role: str) -> list[Right]:
    """All that the role needs on what is there, on whole tables, but for what everybody has: functions, CONNECT.

    Raises psycopg's errors.
    """
    return _rights(conn, uses, slugs, role, every=True, whole=True)


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
        (*table.split("."), privileges, use, None)
        for use in uses
        for table, privileges in needs.TABLES.get(use, {}).items()
    ]
    tables += [
        ("pgmq", f"{prefix}_{slug.lower()}", privileges, use, slug)
        for use in uses
        for prefix, privileges in needs.QUEUE_TABLES.get(use, {}).items()
        for slug in slugs
    ]
    if "work" in uses:
        tables += [(*needs.THROTTLE, slug) for slug in ([None] if every else slugs)]
    schemas = [(name, privilege, use) for use in uses for name, privilege in needs.SCHEMAS.get(use, {}).items()]
    given: dict[str, Any] = {"role": role, "all": every, "single": not whole, "asked": list(uses)}
    given |= _columns(("schemas", "tables", "privileges", "uses", "slugs"), tables)
    given |= _columns(("in_schemas", "schema_privileges", "schema_uses"), schemas)
    rows: list[Any] = conn.execute(_RIGHTS, given).fetchall()
    rows += _closed_functions(conn, uses, role, every=every)
    rights = [Right(*row) for row in rows]
    rights = [r._replace(hidden=False) if r.hidden and r.key in needs.HARMLESS else r for r in rights]
    return rights if every else [right for right in rights if not right.granted or right.hidden]


def _closed_functions(conn: Connection, uses: Sequence[Use], role: str | None, *, every: bool) -> list[Any]:
    functions = [(name, use) for use in uses for name in needs.FUNCTIONS[use]]
    names = [name.partition(".")[2] for name, _ in functions]
    if conn.execute(_CLOSED, (names,)).fetchone() != (True,):
        return []
    given = _columns(("functions", "uses"), functions)
    return conn.execute(_FUNCTIONS, {"role": role, "all": every, **given}).fetchall()


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
