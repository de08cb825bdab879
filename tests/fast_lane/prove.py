"""`python -m tests.fast_lane.prove`: very many histories; exits with 1 when one differed. `make prove`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from random import SystemRandom
from time import monotonic

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.fast_lane.histories import History
from tests.fast_lane.sides import prepare, side
from tests.support.cores import install_core
from tests.support.databases import FAST, fresh_database, memory_folder

SHOWN = 10
"""Rows of one history that differ."""

TOLD_EVERY = 1000


@dataclass(frozen=True)
class Share:
    """What one process has come to: histories that differ, and outcomes that were written by the one and the other."""

    different: int
    by_lane: int
    by_core: int


def play(conninfos: list[str], seeds: range) -> Share:
    """A share of the histories, in two databases; what differs is printed with its seed."""
    different = by_lane = by_core = 0
    began = monotonic()
    with ExitStack() as stack:
        for conninfo in conninfos:
            prepare(conninfo)
        core, fast = (stack.enter_context(side(c, fast_lane=n == 1)) for n, c in enumerate(conninfos))
        for n, seed in enumerate(seeds, 1):
            history = History(seed, core, fast)
            if found := history.differences():
                different += 1
                steps = [str(step) for step in history.steps.values()]
                say = f"--- seed {seed} differs; to play it again: {history.again}"
                print("\n".join([say, *steps, *found[:SHOWN]]), flush=True)
            by_lane += history.by_lane
            by_core += history.by_core
            if n % TOLD_EVERY == 0:
                print(f"{n} of {len(seeds)}, {n / (monotonic() - began):.1f} a second, {different} differ", flush=True)
    return Share(different, by_lane, by_core)


def main() -> int:
    """Play the histories; 1 when one of them differed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fast_lane.prove", description=__doc__)
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--processes", default="auto", help="auto: as many as there are cores")
    parser.add_argument("--seed", type=int, help="of the first history, each further one has the next; printed")
    arguments = parser.parse_args()
    processes = (os.cpu_count() or 1) if arguments.processes == "auto" else max(1, int(arguments.processes))
    seed = SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    seeds = range(seed, seed + arguments.histories)
    print(f"seeds from {seed} on, {processes} processes, core: {os.environ.get('PGFLOW_CORE') or '0.8.1'}", flush=True)
    began = monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings=FAST, parent=memory_folder()))
        template = stack.enter_context(fresh_database(server))
        install_core(template)
        name = template.rpartition("dbname=")[2]
        pairs = [[stack.enter_context(fresh_database(server, name)) for _ in range(2)] for _ in range(processes)]
        spawned = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=spawned))
        shares = [pool.submit(play, pair, seeds[n::processes]) for n, pair in enumerate(pairs)]
        done = [share.result() for share in shares]
    different = sum(share.different for share in done)
    by_lane, by_core = sum(share.by_lane for share in done), sum(share.by_core for share in done)
    seconds = monotonic() - began
    print(
        f"{len(seeds)} histories in {seconds / 60:.1f} minutes, {len(seeds) / seconds:.1f} a second; {by_lane} outcomes"
        f" by the fast lane, {by_core} left to the core's functions; {different} histories differ"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
