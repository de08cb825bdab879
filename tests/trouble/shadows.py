"""The statements of the package, and what each of them calls that is not PostgreSQL's."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from typing import Any

import psycopg

from pgflow_starter import postgres
from tests.support.statements import Statement
from tests.trouble.conftest import Admin

STATEMENT = re.compile(r"\s*(select|with|update|insert|delete)\b")
MODULES = [
    importlib.import_module(m.name) for m in pkgutil.walk_packages(postgres.__path__, "pgflow_starter.postgres.")
]
SETTING_UP = (
    *("adapting", "admin", "applied", "book", "cascades", "changing", "deleting", "flow_list", "grants", "hardening"),
    *("install", "inventory", "laying_down", "ownership", "syncing", "upgrade"),
)
"""Modules that set databases up or look into them, with a path of their own."""


def texts() -> dict[str, str]:
    """The constants of the package that are whole statements, by their names."""
    named = {f"{m.__name__.rpartition('.')[2]}.{name}": value for m in MODULES for name, value in vars(m).items()}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, str) and STATEMENT.match(value) and name.partition(".")[0] not in SETTING_UP
    }


# A function with the statement for a body depends on what the statement calls; nothing depends on what is PostgreSQL's.
_TYPES = (
    "select parameter_types::text[] from pg_catalog.pg_prepared_statements where name operator(pg_catalog.=) 'ours'"
)
_CALLED = """
select pg_describe_object(refclassid, refobjid, 0)
from pg_depend left join pg_proc p on refclassid = 'pg_proc'::regclass and p.oid = refobjid
left join pg_operator o on refclassid = 'pg_operator'::regclass and o.oid = refobjid
where classid = 'pg_proc'::regclass and objid = 'public.ours'::regproc
  and 'public'::regnamespace in (p.pronamespace, o.oprnamespace)
"""


def shadows(connection: Admin, statement: Statement) -> str:
    """What a statement calls of what is planted: where it is executed, what that is, and the statement."""
    if not STATEMENT.match(statement.text):
        return ""
    found: Any
    with connection.transaction(force_rollback=True):
        try:
            given = ", ".join(_type(connection, t) for t in statement.types)
            connection.execute(f"prepare ours {given and f'({given})'} as {statement.text}".encode())
            types: Any = connection.execute(_TYPES).fetchone()
            connection.execute("deallocate ours")
            body = f"returns void begin atomic {statement.text}; end"
            connection.execute(f"create function public.ours({', '.join(types[0])}) {body}".encode())
            connection.execute("set local search_path to pg_catalog")
            found = [row[0] for row in connection.execute(_CALLED)]
        except psycopg.Error as error:
            found = str(error)
    bare = re.findall(rf"(?<![\w.])(?:{'|'.join(variadic(connection))})\(", statement.text)
    return f"{statement.where}: {found or ''}{bare or ''}: {statement.text}" if found or bare else ""


def variadic(connection: Admin) -> list[str]:
    """What takes any number of arguments of any type, of which not all can be planted."""
    rows = connection.execute("select distinct proname::text from pg_catalog.pg_proc where provariadic <> 0").fetchall()
    return [str(row[0]) for row in rows]


def _type(connection: Admin, oid: int) -> str:
    row = connection.execute("select pg_catalog.format_type(%s::pg_catalog.oid, null)", (oid,)).fetchone()
    assert row is not None
    return str(row[0]) if oid else "unknown"


def unseen(executed: Iterable[str]) -> list[str]:
    """The statements of the package that were not executed: what is added has to be done above."""
    known = [re.sub(r"\s+", " ", text) for text in executed]
    left = []
    for name, text in texts().items():
        parts = re.split(r" ?(?:%\(\w+\)s|%s|\{\w*\}) ?", re.sub(r"\s+", " ", text).strip())
        pattern = re.compile(".*?".join(re.escape(part.replace("%%", "%").replace("{{}}", "{}")) for part in parts))
        if not any(pattern.search(given) for given in known):
            left.append(name)
    return left
