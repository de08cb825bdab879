"""Supabase's book of a database's migrations: read, and written with those of its project's folder that are here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pgflow_starter.postgres.setup.admin import Connection
from pgflow_starter.postgres.setup.migrations import Migration, Source, own_name
from pgflow_starter.postgres.stores import rights

_RIGHTS = """
select pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select'),
       pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'insert')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'supabase_migrations' and c.relname = 'schema_migrations'
"""
_READ = "select version::text, coalesce(name::text, '') from supabase_migrations.schema_migrations"
# A version that is there already is one that Supabase's own program will not apply.
_WRITE = "insert into supabase_migrations.schema_migrations (version, name) values (%s, %s) on conflict do nothing"

_LEFT = (
    "Supabase keeps book of this database's migrations, and these are none of its project's files: they are not written"
    " there. Once the project has them, by `npx pgflow install`, run `pgflow-starter db upgrade --core-dir"
    " supabase/migrations` before `supabase db push`, which would apply them once more"
)


class Book(NamedTuple):
    """What is in it: the versions of all migrations, and pgflow's own names for those that are pgflow's."""

    versions: frozenset[str]
    names: frozenset[str]


class Entries(NamedTuple):
    """What is to be written into it, and whether nothing is though Supabase's own program may apply it once more."""

    migrations: tuple[Migration, ...] = ()
    are_left: bool = False

    def lines(self, write: str) -> list[str]:
        """What to tell of it, with this word for what is done."""
        if self.are_left:
            return [_LEFT]
        versions = sorted(migration.version for migration in self.migrations)
        if not versions:
            return []
        return [f"{write} into Supabase's table of migrations: {len(versions)}, from {versions[0]} to {versions[-1]}"]


def read(connection: Connection) -> Book | None:
    """None where there is none, or this role may not read it. Raises psycopg's errors."""
    may: tuple[bool, bool] | None = connection.execute(_RIGHTS).fetchone()
    if may is None or not may[0]:
        return None
    rows = connection.execute(_READ).fetchall()
    names = frozenset(name for version, title in rows if (name := own_name(version, title)))
    return Book(frozenset(version for version, _ in rows), names)


def entries(connection: Connection, core: Source) -> Entries:
    """What the book has to have once the database has all of that core, and has not yet.

    Supabase's own program applies the files of its project whose versions are not in the book, and nothing at all while
    one that is older than the newest there is not, or one is there that is no file. So of a project's folder all are
    written, those that the database had before as well; of npm's package none is, for its versions are no files'.
    """
    book = read(connection)
    if book is None:
        return Entries()
    if core.is_package:
        return Entries(are_left=not book.names)
    return Entries(tuple(m for m in core.migrations if m.name not in book.names and m.version not in book.versions))


def hindrance(connection: Connection, core: Source) -> str | None:
    """What this role may not, where the book is to be written, with the remedy. Raises psycopg's errors."""
    may: tuple[bool, bool] | None = connection.execute(_RIGHTS).fetchone()
    role = rights.role_of(connection)
    if core.is_package or may in (None, (True, True)) or role is None:
        return None
    return (
        f"role {role[0]!r} may not {'write' if may[0] else 'read'} Supabase's table of migrations, where these have to"
        f" be written: GRANT USAGE ON SCHEMA supabase_migrations TO {role[1]};"
        f" GRANT SELECT, INSERT ON supabase_migrations.schema_migrations TO {role[1]}"
    )


def write(connection: Connection, migrations: Sequence[Migration]) -> None:
    """Have the book say that the database has had them: in the transaction that sees to it. Raises psycopg's errors."""
    for migration in migrations:
        connection.execute(_WRITE, [migration.version, migration.title])
