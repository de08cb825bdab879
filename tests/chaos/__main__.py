"""`python -m tests.chaos`: every scenario in turn; a table, and JSON for machines. `make chaos`."""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
from pathlib import Path

from tests.chaos.scenario import Result, run
from tests.chaos.scenarios import LIVES, SCENARIOS
from tests.chaos.world import server

LONGEST = 60.0
COLUMNS = (
    f"{'scenario':<12}{'faults':>7}{'runs':>7}{'lost':>6}{'tasks':>8}{'twice':>7}{'why?':>6}{'over':>6}{'stranded':>10}{'asks':>8}{'open':>6}"
    f"{'p99 ms':>8}{'restarts':>9}{'right after':>12}{'backends':>9}{'left':>5}{'threads':>9}{'fds':>5}{'MB':>7}"
)


def line(r: Result) -> str:
    """The row of the table."""
    return (
        f"{r.scenario:<12}{r.faults:>7}{r.runs:>7}{r.lost:>6}{r.tasks:>8}{r.repeated:>7}{r.unexplained:>6}"
        f"{r.taken_over:>6}{r.stranded:>10}{r.asks:>8}{r.unanswered:>6}{r.status_p99_ms:>8.2f}{r.restarts:>9}"
        f"{r.converged_seconds:>10.1f} s{r.backends_most:>9}{r.backends_left:>5}{len(r.threads_left):>9}"
        f"{r.fds_left:>5}{r.rss_growth_mb:>7.1f}" + ("" if r.passed else "  FAILED")
    )


def main() -> int:
    """Run the scenarios; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of faults in all (default 300)")
    parser.add_argument("--seed", type=int, help="to repeat a run's faults; printed")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only these; may be repeated")
    parser.add_argument("--longest", type=float, help="seconds of one fault at most (default: a fifth of its scenario)")
    parser.add_argument("--json", type=Path, help="where to write the results too")
    parser.add_argument("--verbose", action="store_true", help="with the package's warnings")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(relativeCreated)9d %(levelname)s %(name)s %(message)s")
    logging.disable(logging.NOTSET if arguments.verbose else logging.CRITICAL)
    seed = random.SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    names = arguments.scenario or list(SCENARIOS)
    seconds = arguments.seconds / len(names)
    print(f"seed {seed}; {seconds:.0f} s a scenario\n{COLUMNS}", flush=True)
    results: list[Result] = []
    for number, name in enumerate(names):
        with server() as running:
            longest = arguments.longest or min(LONGEST, seconds / 5)
            results.append(run(running, name, seconds, seed + number, longest=longest, lives=name in LIVES))
        print(line(results[-1]), flush=True)
        for problem in (*results[-1].problems, *results[-1].threads_left, *results[-1].raised):
            print(f"  {problem}", flush=True)
    told = json.dumps({"seed": seed, "results": [r.to_dict() for r in results]}, indent=2)
    if arguments.json is not None:
        arguments.json.write_text(told)
    else:
        print(told)
    return 0 if all(r.passed for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
