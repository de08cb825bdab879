"""The least rights that a role needs for flows to run, as a script of SQL, printed or run."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from pgflow_starter.core.text import one_line
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.admin import Connection, limited, session
from pgflow_starter.postgres.setup.inventory import take_inventory
from pgflow_starter.postgres.stores import needs, refusals, rights
from pgflow_starter.postgres.stores.needs import Use
from pgflow_starter.postgres.stores.rights import Right

_TITLES: dict[Use, str] = {
    "work": "What a worker does; of each flow's queue too, as far as it is there. For flows that another role adds\n"
    "-- later, do this again.",
    "start": "Starting runs.",
    "compile": "Making flows that are not in the database yet. Who has CREATE on schema pgmq can have code of its\n"
    "-- own run there by whoever sends or claims, a superuser too: leave it out (--work-only) where another role\n"
    "-- makes them all.",
    "notify": "signal_strategy='notify': having queues notify. Who has TRIGGER on a queue can have code of its own\n"
    "-- run by whoever sends to it: leave it out (--work-only) where nobody notifies, or another role sees to it.",
    "prune": "Deleting finished runs, with what is archived of them.",
}
_CANNOT_LOG_IN = "select not rolcanlogin from pg_catalog.pg_roles where rolname::text = %s"


def grants(conninfo: str, role: str, *, apply: bool = False, work_only: bool = False, prune: bool = False) -> str:
    """The script for the role, in this database as it is now; of it is carried out what the role has not yet, where
    `apply` says so, all or nothing.

    `work_only`: without making flows and having queues notify; `prune`: with deleting finished runs. Again is no harm.
    Takes 20 seconds at most for each statement. Raises SetupError, for an unknown role too, and DatabaseError. Safe
    from any thread.
    """
    uses = (needs.WORK_USES if work_only else needs.ALL_USES) + (needs.PRUNE_USES if prune else ())
    with session(conninfo) as connection, limited(connection, 20):
        problems = take_inventory(connection).missing
        if problems:
            raise SetupError("; ".join(problems))
        found = rights.role_of(connection, role)
        if found is None:
            quoted = one_line(role)
            raise SetupError(f"there is no role {quoted!r} on this server: create it first, with CREATE ROLE ... LOGIN")
        queues = rights.queues(connection)
        needed = rights.needed(connection, uses, queues, role)
        script = _script(connection, uses, needed, *found)
        if apply:
            _carry_out(connection, [right for right in needed if not right.granted], found[1])
            # A GRANT of what one may not grant is no error to the server, if one has rights there oneself.
            lacking = rights.missing(connection, uses, queues, role=role, whole=True)
            left = [right for right in lacking if not right.granted]
            if left:
                raise SetupError(_refused(connection, left[0].owner, refusals.missing_text(left, *found)))
        return script


def _carry_out(connection: Connection, lacking: Sequence[Right], quoted: str) -> None:
    for owner, statement in _statements(lacking, quoted):
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise SetupError(_refused(connection, owner, f"{error.diag.message_primary}: {statement}")) from None


def _refused(connection: Connection, owner: str, problem: str) -> str:
    us, owners = rights.role_of(connection), rights.role_of(connection, owner)
    assert us is not None
    assert owners is not None
    return one_line(
        f"nothing was changed: this is for its owner, role {owner!r}, to grant: run `db grant` as that role (it grants"
        f" what is missing only) or as a superuser, or GRANT {owners[1]} TO {us[1]} first: {problem}"
    )


def _script(connection: Connection, uses: Sequence[Use], needed: Sequence[Right], name: str, quoted: str) -> str:
    parts = [
        "-- The least rights with which a role can run flows here, for psql or anything else that runs SQL. Each",
        "-- statement is of things of one owner, who has to run it, or a superuser.",
    ]
    for use in uses:
        parts.append(f"\n-- {_TITLES[use]}")
        parts += [f"{statement};" for _, statement in _statements([r for r in needed if r.use == use], quoted)]
    notes = refusals.hidden_problems(needed, name, quoted)
    if connection.execute(_CANNOT_LOG_IN, (name,)).fetchone() == (True,):
        notes.append(one_line(f"role {name!r} cannot connect, only its members can: else ALTER ROLE {quoted} LOGIN"))
    if notes:
        parts += ["\n-- Not mended by any GRANT:", *(f"-- {note}" for note in notes)]
    return "\n".join(parts)


def _statements(needed: Sequence[Right], quoted: str) -> list[tuple[str, str]]:
    """Each with the owner of its things: one for all that need the same privileges and belong to the same."""
    owners = {(right.kind, right.target): right.owner for right in needed}
    targets: dict[tuple[str, str, str], list[str]] = {}
    for privileges, kind, target in rights.by_target(needed):
        targets.setdefault((kind, privileges, owners[kind, target]), []).append(target)
    kinds = ("DATABASE", "SCHEMA", "TABLE", "FUNCTION")
    ordered = sorted(targets.items(), key=lambda item: kinds.index(item[0][0]))
    return [(owner, f"GRANT {what} ON {kind} {', '.join(names)} TO {quoted}") for (kind, what, owner), names in ordered]
