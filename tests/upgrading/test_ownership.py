"""What an upgrade brings belongs to the owner of the core, whoever makes the upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.postgres.setup.upgrade import upgrade
from tests.cores.stand_in import Admin

OWNERS = """
select distinct owner::regrole::text from (
    select nspowner from pg_namespace where nspname = 'pgflow'
    union all select proowner from pg_proc where pronamespace = 'pgflow'::regnamespace
    union all select relowner from pg_class where relnamespace = 'pgflow'::regnamespace
    union all select typowner from pg_type where typnamespace = 'pgflow'::regnamespace
) as parts (owner)
"""
GIVEN_AWAY = """
do $$
declare what text;
begin
    for what in
        select 'schema pgflow'
        union all select 'routine ' || oid::regprocedure from pg_proc where pronamespace = 'pgflow'::regnamespace
        union all select 'table ' || oid::regclass from pg_class
                  where relnamespace = 'pgflow'::regnamespace and relkind in ('r', 'v')
        union all select 'type ' || t.oid::regtype from pg_type t left join pg_class c on c.oid = typrelid
                  where typnamespace = 'pgflow'::regnamespace and (typtype in ('e', 'd') or c.relkind = 'c')
    loop
        execute format('alter %s owner to {owner}', what);
    end loop;
end $$
"""


@pytest.fixture
def owner(admin: Admin) -> Iterator[str]:
    """A role that owns the database and the core and is no superuser, and has a member of its name with `_member`."""
    name = f"owner_{admin.info.dbname}"
    member = f"{name}_member"
    admin.execute(f"create role {name} login; create role {member} login in role {name}".encode())
    try:
        admin.execute(GIVEN_AWAY.format(owner=name).encode())
        admin.execute(f"alter database {admin.info.dbname} owner to {name}".encode())
        admin.execute(f"grant usage on schema pgmq, realtime to {name}".encode())
        admin.execute(f"grant select on all tables in schema pgmq to {name}".encode())
        yield name
    finally:
        for role in (member, name):
            admin.execute(f"reassign owned by {role} to postgres; drop owned by {role}; drop role {role}".encode())


@pytest.mark.parametrize("who", ["postgres", "{owner}_member", "{owner}"], ids=["superuser", "member", "owner"])
def test_it_belongs_to_the_owner_of_the_core(old: str, newer: Path, admin: Admin, owner: str, who: str) -> None:
    assert upgrade(make_conninfo(old, user=who.format(owner=owner)), core_dir=newer)
    assert admin.execute(OWNERS).fetchall() == [(owner,)]
