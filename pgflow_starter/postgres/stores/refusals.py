"""What a role has not, in words and as an error: with the statements that mend it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import psycopg

from pgflow_starter.core.text import one_line
from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores import rights
from pgflow_starter.postgres.stores.needs import Use
from pgflow_starter.postgres.stores.rights import Right

_IS_STORED = """
select exists (
    select from pgflow.flows f
    where f.flow_slug = %s and (pg_catalog.to_jsonb(f) ->> 'queue_mode'::text = 'step'
                                or exists (select from pgmq.meta m where m.queue_name::text = f.flow_slug))
)
"""
MENTIONED = 3
"""Objects that one message names; `db grant` names them all."""


def refuse_missing(conn: Connection, lacking: Sequence[Right], *, prune: bool = False) -> None:
    """Raise MissingRightsError naming them and what mends them, where there are some; those of who prunes, or works."""
    if lacking:
        role = rights.role_of(conn)
        assert role is not None
        raise MissingRightsError(missing_text(lacking, *role, prune=prune))


def refuse_denied(conn: Connection, error: psycopg.Error, uses: Sequence[Use], slug: str | None) -> NoReturn:
    """Raise MissingRightsError for what the server has just refused: what is missing, else what it names.

    Rights to compile are not missing for a flow that is stored.
    """
    slugs = [slug] if slug else []
    uses = [use for use in uses if use != "compile" or not _is_stored(conn, slug)]
    refuse_missing(conn, rights.missing(conn, uses, slugs))
    said = one_line(error.diag.message_primary or str(error))
    lacking = rights.missing(conn, uses, slugs, whole=True)
    named = [right for right in lacking if right.target.rpartition(".")[2].strip('"') in said] or lacking
    role = rights.role_of(conn)
    if not named or role is None:
        msg = f"{said}: no right on it that a worker needs was found missing; one on single columns does not do"
        raise MissingRightsError(msg)
    raise MissingRightsError(f"{said}, and rights on single columns of it do not do: {missing_text(named, *role)}")


def _is_stored(conn: Connection, slug: str | None) -> bool:
    try:
        return conn.execute(_IS_STORED, (slug,)).fetchone() == (True,)
    except psycopg.errors.InsufficientPrivilege:  # it is that right that is missing
        return True


def missing_text(lacking: Sequence[Right], name: str, quoted: str, *, prune: bool = False) -> str:
    """In one line: what is missing for the role, and the statements that mend it."""
    problems = problems_of(lacking, name, quoted)
    more = len(problems) - MENTIONED
    rest = [f"and {more} more such"] if more > 0 else []
    whose, flag = ("pruning", " --prune") if prune else ("a worker", "")
    hint = f"(all that {whose} needs: pgflow-starter db grant {one_line(quoted)}{flag})"
    return f"{'; '.join([*problems[:MENTIONED], *rest])} {hint}"


def problems_of(lacking: Sequence[Right], name: str, quoted: str) -> list[str]:
    """Each with its remedy, in a line."""
    granting = [
        one_line(
            f"role {name!r} has no {privileges} on {kind.lower()} {target}:"
            f" GRANT {privileges} ON {kind} {target} TO {quoted}"
        )
        for privileges, kind, target in rights.by_target(r for r in lacking if not r.granted)
    ]
    return granting + hidden_problems(lacking, name, quoted)


def hidden_problems(lacking: Sequence[Right], name: str, quoted: str) -> list[str]:
    """Those that no GRANT mends."""
    return [
        one_line(
            f"row level security of {target} has no policy that lets role {name!r} {privileges}:"
            f" ALTER TABLE {target} DISABLE ROW LEVEL SECURITY, or CREATE POLICY for it,"
            f" or ALTER ROLE {quoted} BYPASSRLS"
        )
        for privileges, _, target in rights.by_target(r for r in lacking if r.hidden)
    ]
