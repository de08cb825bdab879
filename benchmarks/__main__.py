"""`python -m benchmarks`: the tables, on embedded PostgreSQL servers of their own with fsync on."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.child import cost
from benchmarks.figures import Figure, header
from benchmarks.plan import FULL, SHORT
from benchmarks.plots import draw
from benchmarks.tables import LONG, TABLES
from pgflow_starter.errors import PgflowError

Tables = dict[str, list[dict[str, Any]]]


def main() -> int:
    """Measure and print the tables, each in a process of its own; 1 where one could not be measured."""
    arguments = _parser().parse_args()
    try:
        if arguments.only:
            tables = {arguments.only: _measured(arguments.only, full=arguments.full, quiet=arguments.json == "-")}
        else:
            tables = _each_by_itself(arguments)
        if arguments.json:
            text = json.dumps(tables, indent=2)
            if arguments.json == "-":
                print(text)
            else:
                Path(arguments.json).write_text(text + "\n", encoding="utf-8")
        if arguments.plots:
            for path in draw(tables, Path(arguments.plots)):
                print(path, file=sys.stderr)
    except PgflowError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=TABLES, metavar="TABLE", help=f"one of them: {', '.join(TABLES)}")
    parser.add_argument(
        "--full", action="store_true", help="all tables, five of each, all numbers of modules, outages of a minute"
    )
    parser.add_argument("--peers", action="store_true", help="other job runners on the same server, too")
    parser.add_argument("--json", metavar="FILE", help="write the raw figures there; - prints them and no table")
    parser.add_argument("--plots", metavar="DIR", help="write plots there")
    return parser


def _each_by_itself(arguments: argparse.Namespace) -> Tables:
    """So that none finds memory, threads or a processor that another has warmed."""
    tables: Tables = {}
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "figures.json"
        for name in TABLES:
            if (name == "peers" and not arguments.peers) or (name in LONG and not arguments.full):
                continue
            command = [sys.executable, "-m", "benchmarks", "--only", name, "--json", str(raw)]
            command += ["--full"] if arguments.full else []
            if subprocess.run(command, stdout=sys.stderr if arguments.json == "-" else None, check=False).returncode:
                msg = f"table {name!r} could not be measured"
                raise PgflowError(msg)
            tables |= json.loads(raw.read_text(encoding="utf-8"))
    return tables


def _measured(table: str, *, full: bool, quiet: bool) -> list[dict[str, Any]]:
    rows = []

    def keep(figure: Figure) -> None:
        rows.append(figure.to_dict())
        if not quiet:
            print(figure.line(), flush=True)

    if not quiet:
        print(header(table), flush=True)
    for figure in TABLES[table](FULL if full else SHORT):
        keep(figure)
    taken = cost()
    keep(Figure("(this table's own process: CPU)", [taken["cpu"]], None, "s"))
    keep(Figure("(its peak memory)", [taken["peak_mb"]], None, "MB"))
    return rows


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(main())
