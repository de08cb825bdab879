"""`python -m benchmarks`: the table of ratios, on an embedded PostgreSQL of its own with fsync on."""

from __future__ import annotations

import argparse
import json
import logging
import sys

from benchmarks import starting
from benchmarks.server import databases
from pgflow_starter.errors import PgflowError


def main() -> int:
    """Run the benchmarks and print them; `--json` prints the raw figures instead."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of each figure; the median is shown (default 5)")
    parser.add_argument("--modules", type=int, nargs="*", default=[1, 10, 100], help="numbers of modules to start")
    parser.add_argument("--json", action="store_true", help="print raw figures, in seconds")
    arguments = parser.parse_args()
    logging.getLogger("pgflow_starter").setLevel(logging.ERROR)
    try:
        with databases() as fresh:
            rows = []
            for strategy in ("polling", "notify"):
                for count in arguments.modules:
                    row = starting.measure(fresh, strategy, count, arguments.repetitions)
                    rows.append(row)
                    if not arguments.json:
                        print(row.line() if len(rows) > 1 else f"{starting.HEADER}\n{row.line()}", flush=True)
    except PgflowError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
