"""Rows of other people's tables that go with a flow's, by their foreign keys."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from pgflow_starter.postgres.setup.admin import Connection

# The columns in the order of those that they refer to. A partition's key is its table's.
_KEYS = """
select child.oid::regclass::text, parent.oid::regclass::text,
       pg_catalog.has_table_privilege(child.oid, 'select') and pg_catalog.has_schema_privilege(n.oid, 'usage'),
       array(select a.attname::text from pg_catalog.unnest(k.conkey) with ordinality as c (number, place)
             join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.number order by c.place),
       array(select a.attname::text from pg_catalog.unnest(k.confkey) with ordinality as c (number, place)
             join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = c.number order by c.place)
from pg_catalog.pg_constraint k
join pg_catalog.pg_class child on child.oid = k.conrelid join pg_catalog.pg_namespace n on n.oid = child.relnamespace
join pg_catalog.pg_class parent on parent.oid = k.confrelid
where k.contype = 'f' and k.confdeltype = 'c' and k.conparentid = 0
  and parent.oid = any(%(core)s::regclass[]) and not child.oid = any(%(core)s::regclass[])
order by 1, k.oid
"""
_CORE = [f"pgflow.{table}" for table in ("flows", "steps", "deps", "runs", "step_states", "step_tasks")]


def dependents(connection: Connection, slug: str) -> dict[str, int | None]:
    """How many rows of which tables refer to the flow's `ON DELETE CASCADE`; None where this role may not look.

    Those that refer to these rows in turn are not counted. Raises psycopg's errors.
    """
    going: dict[str, list[sql.Composable] | None] = {}
    for child, parent, may_look, columns, referred in connection.execute(_KEYS, {"core": _CORE}).fetchall():
        if not may_look:
            going[child] = None
        elif (conditions := going.setdefault(child, [])) is not None:
            conditions.append(
                sql.SQL("({}) in (select {} from {} where flow_slug = {})").format(
                    sql.SQL(", ").join(sql.Identifier(name) for name in columns),
                    sql.SQL(", ").join(sql.Identifier(name) for name in referred),
                    sql.SQL(parent),
                    sql.Literal(slug),
                )
            )
    return {child: None if found is None else _count(connection, child, found) for child, found in going.items()}


def _count(connection: Connection, table: str, conditions: list[sql.Composable]) -> int:
    query = sql.SQL("select count(*) from {} where {}").format(sql.SQL(table), sql.SQL(" or ").join(conditions))
    row: Any = connection.execute(query).fetchone()
    return int(row[0])
