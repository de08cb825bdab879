"""A folder with a newer core's migrations, and a database full of runs in all states."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.migrations import PUBLISHED
from pgflow_starter.postgres.stores.flows import compile_flow
from pgflow_starter.postgres.stores.worker_rows import MARK
from tests.cores.stand_in import STAND_INS, Admin, start_tasks
from tests.support import cores
from tests.support.starters import running
from tests.support.waiting import eventually

WAIT = 60.0
MADE = {"0.14": "20260214181656", "0.15.1": "20260904095427", "0.17": "20260915074120"}
"""When the migration was made that brought what the stand-in stands for."""
BOOK = """
create schema supabase_migrations;
create table supabase_migrations.schema_migrations (version text primary key, statements text[], name text);
"""
"""Supabase's table of migrations."""


def stand_in_name(version: str) -> str:
    """The published name of the migration that the stand-in stands for."""
    return f"{MADE[version]}_pgflow_{STAND_INS[version]}"


def folder_to(folder: Path, version: str, prefix: str = "") -> Path:
    """Make it one with the migrations of 0.8.1 and the stand-ins to that version, or give the one of PGFLOW_CORE.

    `prefix`: what each file's name begins with, but for a number that is made one longer each time.
    """
    if cores.FOLDER and not prefix:
        return Path(cores.FOLDER)
    folder.mkdir(exist_ok=True)
    texts = {migration.name: migration.sql for migration in core_package.migrations().migrations}
    for stand_in in STAND_INS:
        script = Path(__file__).parents[1] / "cores" / f"core_{stand_in.replace('.', '_')}.sql"
        texts[stand_in_name(stand_in)] = script.read_text(encoding="utf-8")
        if stand_in == version:
            break
    texts |= fillers(texts)
    for n, (name, text) in enumerate(sorted(texts.items())):
        (folder / f"{f'{int(prefix) + n}_' if prefix else ''}{name}.sql").write_text(text, encoding="utf-8")
    return folder


def fillers(names: Iterable[str]) -> dict[str, str]:
    """Migrations that do nothing in the place of those that were published before the last of these and are not there.

    By their names.
    """
    there = {name[:14] for name in names}
    return {f"{made}_pgflow_filler": "-- nothing" for made in PUBLISHED if made < max(there) and made not in there}


def shop() -> tuple[pgflow.Flow, pgflow.Flow]:
    """Two flows: with a map between two steps, and with one step that fails where it is told to."""
    order = pgflow.Flow("shop_order", max_attempts=3, base_delay=0)
    order.step(slug="lines")(lambda given, ctx: given["lines"])
    order.map(slug="price", array="lines")(lambda line, ctx: line * 10)
    order.step(slug="total", depends_on=["price"])(lambda deps, ctx: sum(deps["price"]))
    brittle = pgflow.Flow("brittle", max_attempts=2, base_delay=0)

    @brittle.step()
    def check(given: Any, ctx: pgflow.TaskContext) -> Any:
        if given["breaks"]:
            raise ValueError("broken")
        return given

    brittle.step(slug="report", depends_on=["check"])(lambda deps, ctx: deps["check"]["n"])
    return order, brittle


def fill(conninfo: str, count: int) -> None:
    """So many runs of these flows: not begun, begun, at each step, failed once, failed for good, completed, and some
    whose worker has died."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        for flow in shop():
            compile_flow(admin, definition_of(flow))
        admin.execute(
            "select pgflow.start_flow(slug, jsonb_build_object('lines', array[n, n + 1, n + 2], 'breaks', n %% 3 = 0,"
            " 'n', n)) from generate_series(1, %s) n, unnest(array['shop_order', 'brittle']) slug"
            " where (n %% 2 = 0) = (slug = 'brittle')",
            (count,),
        )
        most = count // 20
        for _ in range(3):  # a tenth of the orders is at each step, then
            _work(admin, "shop_order", 6 * most, failing=most // 3)
        _work(admin, "brittle", 8 * most, failing=most)
        _work(admin, "brittle", 6 * most, failing=2 * most)
        for slug in ("shop_order", "brittle"):
            _claim(admin, slug, most)


def _claim(admin: Admin, slug: str, most: int) -> list[Any]:
    """Tasks of a worker of ours that was last heard of a day ago."""
    worker = uuid4()
    admin.execute(
        "insert into pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at)"
        " values (%s, %s, %s, now() - interval '1 day')",
        (worker, slug, f"{MARK}{slug}"),
    )
    return admin.execute(
        "select t.run_id, t.step_slug, t.task_index, t.input from pgmq.read(%(slug)s, 0, %(most)s) m, "
        + start_tasks(admin),
        {"slug": slug, "most": most, "worker": worker},
    ).fetchall()


def _work(admin: Admin, slug: str, most: int, failing: int) -> None:
    with admin.transaction():
        _end(admin, slug, _claim(admin, slug, most), failing)


def _end(admin: Admin, slug: str, tasks: list[Any], failing: int) -> None:
    for n, (run, step, index, given) in enumerate(tasks):
        if n < failing and (slug == "brittle" or step == "lines"):
            admin.execute("select pgflow.fail_task(%s, %s, %s, 'ValueError: broken')", (run, step, index))
        else:
            admin.execute("select pgflow.complete_task(%s, %s, %s, %s)", (run, step, index, _output(step, given)))


def _output(step: str, given: Any) -> Any:
    made: Any = {
        "lines": lambda: given["run"]["lines"],
        "price": lambda: given * 10,
        "total": lambda: sum(given["price"]),
        "check": lambda: given["run"],
        "report": lambda: given["check"]["n"],
    }[step]()
    return Jsonb(made)


def ends(conninfo: str) -> dict[object, tuple[object, ...]]:
    """How every run ended, with each of its steps, once a starter has had them all."""
    with (
        psycopg.connect(conninfo, autocommit=True) as admin,
        running(conninfo, flows=shop(), recovery_interval=0.2, heartbeat_interval=0.5, stale_threshold=2.0),
    ):
        unfinished = "select count(*) from pgflow.runs where status = 'started'"
        eventually(lambda: admin.execute(unfinished).fetchone() == (0,), 10 * WAIT, "the end of every run")
        rows = admin.execute(
            "select r.run_id, r.status, r.output,"
            " array(select step_slug || ' ' || status from pgflow.step_states s where s.run_id = r.run_id order by 1)"
            " from pgflow.runs r"
        ).fetchall()
    return {row[0]: tuple(row[1:]) for row in rows}
