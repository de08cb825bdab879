"""`python -m benchmarks`: the tables, on embedded PostgreSQL servers of their own with fsync on."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import crashing, hanging, probing, recovering, starting, telling, working
from benchmarks.figures import Figure, header
from benchmarks.server import databases
from pgflow_starter.errors import PgflowError


def main() -> int:
    """Run the benchmarks and print them; `--json` prints the raw figures instead."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of each figure; the median is shown (default 5)")
    parser.add_argument("--modules", type=int, nargs="*", default=[1, 10, 100], help="numbers of modules to start")
    parser.add_argument(
        "--only", choices=("starting", "recovering", "working", "telling", "probing"), help="one of the tables"
    )
    parser.add_argument("--long", action="store_true", help="outages of 60 and 45 s too: some 10 minutes more")
    parser.add_argument("--json", action="store_true", help="print raw figures")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    told: dict[str, list[dict[str, Any]]] = {}
    try:
        if arguments.only in (None, "starting"):
            told["starting"] = _starting(arguments)
        if arguments.only in (None, "recovering"):
            told["recovering"] = _table(arguments, "recovering", _recovering(arguments))
        if arguments.only in (None, "working"):
            told["working"] = _table(arguments, "working", _working(arguments))
        if arguments.only in (None, "telling"):
            told["telling"] = _table(arguments, "telling", telling.measure(arguments.repetitions))
        if arguments.only in (None, "probing"):
            told["probing"] = _table(arguments, "probing", probing.measure(arguments.repetitions))
    except PgflowError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(told, indent=2))
    return 0


def _starting(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    _say(arguments, starting.HEADER)
    with databases() as fresh:
        for strategy in ("polling", "notify"):
            for count in arguments.modules:
                row = starting.measure(fresh, strategy, count, arguments.repetitions)
                rows.append(row.to_dict())
                _say(arguments, row.line())
    return rows


def _table(arguments: argparse.Namespace, name: str, measured: Iterator[Figure]) -> list[dict[str, Any]]:
    rows = []
    _say(arguments, header(name))
    for figure in measured:
        rows.append(figure.to_dict())
        _say(arguments, figure.line())
    return rows


def _recovering(arguments: argparse.Namespace) -> Iterator[Figure]:
    yield from crashing.enduring()
    with databases() as fresh:
        yield crashing.answering(fresh, arguments.repetitions)
        yield from hanging.measure(fresh, arguments.repetitions)
    yield from recovering.measure(arguments.repetitions, long=arguments.long)


def _working(arguments: argparse.Namespace) -> Iterator[Figure]:
    with databases() as fresh:
        yield from working.measure(fresh, arguments.repetitions)


def _say(arguments: argparse.Namespace, line: str) -> None:
    if not arguments.json:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
