"""`python -m tests.interrupting --tries 200`: how long the second Ctrl-C takes, beside busy processes."""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.interrupting.attempt import SLOW, Attempt, attempt
from tests.support.cores import install_core
from tests.support.databases import FAST, fresh_database, memory_folder

BUSY = "while True: pass"


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that do nothing but take the machine's time."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def table(attempts: Sequence[Attempt]) -> str:
    """The distribution in one line, then each that was not good."""
    seconds = sorted(a.seconds for a in attempts)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    good = sum(a.good for a in attempts)
    told = f"{good} of {len(attempts)} within {SLOW:g} s; median {cuts[49]:.2f} s, p90 {cuts[89]:.2f} s, "
    told += f"p99 {cuts[98]:.2f} s, most {seconds[-1]:.2f} s"
    for a in attempts:
        if not a.good:
            after = " and ".join(f"{moment:.3f} s" for moment in a.moments)
            told += f"\n  {a.seconds:.2f} s, exit code {a.code}, signals after {after}: {a.log}"
    return told


def main() -> int:
    """Try; 1 when one was too slow or ended otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.interrupting", description=__doc__)
    parser.add_argument("--tries", type=int, default=200, help="default 200")
    parser.add_argument("--busy", type=int, default=2, help="processes beside it that take all they get (default 2)")
    parser.add_argument("--at-once", type=int, default=4, help="tries beside each other (default 4)")
    parser.add_argument("--http", action="store_true", help="with a page")
    parser.add_argument("--seed", type=int, help="to repeat the moments; printed")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    more = ("--http", ":0") if arguments.http else ()
    with (
        EmbeddedPostgres(settings=FAST, parent=memory_folder()) as server,
        fresh_database(server) as template,
        ThreadPoolExecutor(arguments.at_once) as pool,
    ):
        install_core(template)

        def one(number: int) -> Attempt:
            with fresh_database(server, template.rpartition("dbname=")[2]) as database:
                return attempt(database, random.Random(seed + number), *more)

        with load(arguments.busy):
            attempts = list(pool.map(one, range(arguments.tries)))
    print(table(attempts))
    return 0 if all(a.good for a in attempts) else 1


if __name__ == "__main__":
    sys.exit(main())
