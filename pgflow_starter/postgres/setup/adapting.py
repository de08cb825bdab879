"""A migration for the database that is there: what calls for more of Supabase than it has is left out, and said so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pgflow_starter.core.text import one_line
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.admin import Connection
from pgflow_starter.postgres.setup.migrations import Migration

_LOOK = """
select array(select extname::text from pg_catalog.pg_extension),
       array(select name::text from pg_catalog.pg_available_extensions),
       array(select rolname::text from pg_catalog.pg_roles
             union all select pubname::text from pg_catalog.pg_publication),
       array(select n.nspname::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
             where (n.nspname, p.proname) in (('cron', 'schedule'), ('net', 'http_post'))
             union all
             select n.nspname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'vault' and c.relname = 'decrypted_secrets'),
       exists (select from pg_catalog.pg_roles where rolname = 'supabase_admin')
"""

# What may hold a semicolon that ends no statement, and the one that does.
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
      | \b[eE]'(?:[^'\\]|\\.|'')*'
      | '(?:[^']|'')*'
      | "(?:[^"]|"")*"
      | (?<![\w$])(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag)
      | (?P<end>;)""",
    re.DOTALL | re.VERBOSE,
)
_FLAGS = re.IGNORECASE | re.DOTALL
_EXTENSION = re.compile(r'create\s+extension\s+(?:if\s+not\s+exists\s+)?"?(\w+)', _FLAGS)
_TRANSACTION = re.compile(
    r"(?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction)\b"
    r"|(?:create|drop)\s+(?:unique\s+)?index\s+concurrently\b|vacuum\b|(?:create|drop)\s+database\b",
    _FLAGS,
)
_COPY = re.compile(r"copy\b.*\b(?:from\s+stdin|to\s+stdout)\b", _FLAGS)
_ACT = re.compile(r"(?:select|with|insert|update|delete|do|call)\b", _FLAGS)
_GRANT = re.compile(r"(?:grant|revoke|alter\s+default\s+privileges|alter\s+publication|create\s+policy)\b", _FLAGS)
_SUPABASES = re.compile(r"\b(?:anon|authenticated|service_role|supabase_\w+)\b")
_FUNCTION = re.compile(r'create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+([\w."]+)', _FLAGS)
_NEEDS = {
    "cron": re.compile(r"\bcron\s*\.|\bsetup_\w*cron\b", _FLAGS),
    "net": re.compile(r"\bnet\s*\.|\bsetup_ensure_workers_cron\b", _FLAGS),
    "vault": re.compile(r"\bvault\s*\.|\bsetup_ensure_workers_cron\b", _FLAGS),
}
_CALLED = {"cron": "pg_cron", "net": "pg_net", "vault": "Supabase's vault"}


class Surroundings(NamedTuple):
    """What there is beside the core. `schemas`: of cron, net and vault, those that do what they do at Supabase."""

    extensions: frozenset[str]
    available: frozenset[str]
    names: frozenset[str]
    schemas: frozenset[str]
    is_supabase: bool


class Adapted(NamedTuple):
    """A migration as it can be carried out here, and what was changed of it, in sentences."""

    migration: Migration
    script: str
    told: tuple[str, ...]


def look_around(connection: Connection) -> Surroundings:
    """What there is beside the core. Raises psycopg's errors."""
    row = connection.execute(_LOOK).fetchone()
    assert row is not None
    extensions, available, names, schemas = (frozenset(found) for found in row[:4])
    if row[4]:  # there the migrations bring the extensions themselves
        schemas |= {schema for schema, extension in (("cron", "pg_cron"), ("net", "pg_net")) if extension in available}
    return Surroundings(extensions, available, names, schemas, row[4])


def adapt(migration: Migration, there: Surroundings) -> Adapted:
    """Leave out what the database has nothing for, and the core's telemetry anywhere.

    Extensions are created at Supabase alone: elsewhere what they do beside the core is for whoever runs the server to
    say. Raises SetupError for a migration that would not be all or nothing, or wants rows that are no statement.
    """
    script, told = migration.sql, list[str]()
    statements = list(_statements(script))
    for _, _, text in statements:
        if _COPY.match(text):  # what comes after it are rows, and no statements
            raise SetupError(
                f"migration {migration.name} has the statement {_shown(text)}: rows beside the statements are what psql"
                " can send, and nothing here; write them as INSERT"
            )
        if _TRANSACTION.match(text):
            raise SetupError(
                f"migration {migration.name} cannot be applied all or nothing: it has the statement {_shown(text)}"
            )
    for start, end, text in reversed(statements):
        if why := _left_out(text, there):
            script = script[:start] + script[end:]
            told.append(f"left out: {_shown(text)}: {why}")
        elif _EXTENSION.match(text) and "pgmq" in text:
            script = script[:start] + script[end:]  # seen to by now, as an extension or as plain SQL
        elif (function := _FUNCTION.match(text)) and (lacking := _lacking(text, there)):
            name = function[1].replace('"', "")
            told.append(f"{name} is laid down, and fails when it is called: it needs {lacking}")
    return Adapted(migration, script, tuple(reversed(told)))


def _left_out(text: str, there: Surroundings) -> str | None:
    """Why the statement is, None if it is not."""
    if (extension := _EXTENSION.match(text)) and extension[1] != "pgmq" and extension[1] not in there.extensions:
        if not there.is_supabase:
            return "this database does not have it"
        return None if extension[1] in there.available else "this server does not have it"
    if _ACT.match(text):
        if "telemetry" in text.lower():
            return "the core's telemetry is not switched on"
        if lacking := _lacking(text, there):
            return f"this database does not have {lacking}"
    if _GRANT.match(text):
        absent = sorted(set(_SUPABASES.findall(text)) - there.names)
        if absent:
            return f"this server does not have {', '.join(absent)}"
    return None


def _lacking(text: str, there: Surroundings) -> str:
    return ", ".join(
        _CALLED[name] for name, called in _NEEDS.items() if name not in there.schemas and called.search(text)
    )


def _statements(script: str) -> Iterator[tuple[int, int, str]]:
    """Where each statement begins and ends, its semicolon included, and its text without comments."""
    begin, kept, at = 0, "", 0
    for token in [*_TOKEN.finditer(script), None]:
        piece = script[at : token.start()] if token else script[at:]
        if not kept.strip() and piece.strip():  # comments before a statement are none of it
            begin = at + len(piece) - len(piece.lstrip())
        elif not kept.strip() and token and not token["comment"] and not token["end"]:
            begin = token.start()
        kept += piece
        if token is None or token["end"]:
            if kept.strip():
                yield begin, token.end() if token else len(script), kept.strip()
            kept = ""
        else:
            kept += " " if token["comment"] else token[0]
        at = token.end() if token else len(script)


def _shown(text: str) -> str:
    return one_line(text, 100)
