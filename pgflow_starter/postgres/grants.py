"""The least rights that a role needs for flows to run, as a script of SQL, printed or run."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow_starter.core.state import one_line
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres import rights
from pgflow_starter.postgres.admin import Connection, limited, session
from pgflow_starter.postgres.inventory import take_inventory
from pgflow_starter.postgres.rights import Right, Use

_TITLES: dict[Use, str] = {
    "work": "What a worker does; of each flow's queue too, as far as it is there. For flows that another role adds\n"
    "-- later, do this again.",
    "start": "Starting runs.",
    "compile": "Making flows that are not in the database yet. Leave it out where another role makes them all.",
    "notify": "signal_strategy='notify': having queues notify.",
}


def grants(conninfo: str, role: str, *, apply: bool = False) -> str:
    """The script for the role, in this database as it is now; carried out where `apply` says so, whole or not at all.

    Again is no harm. Takes 20 seconds at most for each statement. Raises SetupError, for an unknown role too, and
    DatabaseError. Safe from any thread.
    """
    with session(conninfo) as connection, limited(connection, 20):
        problems = take_inventory(connection).missing
        if problems:
            raise SetupError("; ".join(problems))
        found = rights.role_of(connection, role)
        if found is None:
            quoted = one_line(role)
            raise SetupError(f"there is no role {quoted!r} on this server: create it first, with CREATE ROLE ... LOGIN")
        slugs = rights.slugs(connection)
        needed = rights.needed(connection, slugs, role)
        if apply:
            for statement in _statements(needed, found[1]):
                connection.execute(statement.encode())
            _refuse_unless_done(connection, slugs, *found)
        return _script(needed, *found)


def _refuse_unless_done(connection: Connection, slugs: Sequence[str], name: str, quoted: str) -> None:
    """A GRANT of what one may not grant is no error to the server, if one has rights there oneself."""
    left = [r for r in rights.missing(connection, rights.ALL_USES, slugs, role=name) if not r.granted]
    if left:
        problems = rights.told(left, name, quoted)
        raise SetupError(f"connect as the owner of these, or as a superuser; nothing was changed: {problems}")


def _script(needed: Sequence[Right], name: str, quoted: str) -> str:
    parts = ["-- The least rights with which a role can run flows here, for psql or anything else that runs SQL."]
    for use, title in _TITLES.items():
        parts.append(f"\n-- {title}")
        parts += [f"{statement};" for statement in _statements([r for r in needed if r.use == use], quoted)]
    hidden = rights.hidden_problems(needed, name, quoted)
    if hidden:
        parts += ["\n-- Not mended by any GRANT:", *(f"-- {problem}" for problem in hidden)]
    return "\n".join(parts)


def _statements(needed: Sequence[Right], quoted: str) -> list[str]:
    """One for all that need the same privileges."""
    targets: dict[tuple[str, str], list[str]] = {}
    for privileges, kind, target in rights.by_target(needed):
        targets.setdefault((kind, privileges), []).append(target)
    ordered = sorted(targets.items(), key=lambda item: ("SCHEMA", "TABLE", "FUNCTION").index(item[0][0]))
    return [f"GRANT {what} ON {kind} {', '.join(names)} TO {quoted}" for (kind, what), names in ordered]
