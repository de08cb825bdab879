"""`python -m tests.repeat 10`: the suite again and again by turns of condition, and a table of what came of it.

What the environment's PYTEST_ARGS says is added to each run. Exits with 1 when any run failed.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

LIMIT = 5400.0
"""Seconds after which a run counts as one that hangs: it is made to tell where every thread is, and ended."""

SPREAD = ("--dist", "worksteal")


@dataclass(frozen=True)
class Condition:
    """How the suite is run: pytest's arguments, and what is so meanwhile."""

    name: str
    arguments: Callable[[], Sequence[str]]
    meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    condition: str
    code: int | None
    """pytest's exit code; None for one that was ended because it hung."""
    seconds: float
    output: Path
    failed: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.code == 0

    @property
    def result(self) -> str:
        """In a word or two."""
        if self.code is None:
            return "hangs"
        return {0: "passed", 1: "failed"}.get(self.code, f"exit code {self.code}")


def conditions(usual: str) -> list[Condition]:
    """Those that this system can have. `usual` is what `-n` says where a condition says nothing else."""

    def shuffled() -> list[str]:
        # Said to all processes, which would shuffle differently, and readable in the output.
        seed = random.randrange(1_000_000)
        return ["-n", usual, *SPREAD, "--random-order-bucket=global", f"--random-order-seed={seed}"]

    def of(number: str) -> Callable[[], Sequence[str]]:
        return lambda: ["-n", number, *SPREAD]

    found = [Condition("alone", of(usual))]
    if hasattr(os, "sched_setaffinity"):
        found.append(Condition("one core", of(usual), on_one_core))
    found.append(Condition("six processes", of("6")))
    found.append(Condition("random order", shuffled))
    found.append(Condition("busy loop beside", of(usual), beside_busy_loops))
    return found


def by_turns(count: int, among: Sequence[Condition]) -> list[Condition]:
    """So many conditions, each in its turn."""
    return list(islice(cycle(among), count))


@contextmanager
def on_one_core() -> Iterator[None]:
    """What is started meanwhile runs on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def beside_busy_loops() -> Iterator[None]:
    """Each core has something else to do meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def failed_in(output: str) -> list[str]:
    """The names of the tests that failed or had an error, of pytest's short summary."""
    lines = [line.partition(" - ")[0].split(" ", 1) for line in output.splitlines()]
    found = [line[1] for line in lines if line[0] in ("FAILED", "ERROR") and len(line) == 2 and "::" in line[1]]
    return list(dict.fromkeys(found))


def table(runs: Sequence[Run]) -> str:
    """One line for each run, and one for each test that failed in it."""
    wide = max(len("condition"), *(len(run.condition) for run in runs))
    lines = [f"{'run':>3}  {'condition':{wide}}  {'result':12}  {'seconds':>7}  failed"]
    for number, run in enumerate(runs, start=1):
        first, *rest = run.failed or [""]
        lines.append(f"{number:>3}  {run.condition:{wide}}  {run.result:12}  {run.seconds:7.0f}  {first}".rstrip())
        lines += [f"{'':{wide + 28}}  {name}" for name in rest]
    lines.append(f"{sum(run.passed for run in runs)} of {len(runs)} passed")
    lines += [f"what run {n} wrote: {run.output}" for n, run in enumerate(runs, start=1) if not run.passed]
    return "\n".join(lines)


def carried_out(condition: Condition, output: Path, given: Sequence[str]) -> Run:
    """Run the suite. Blocks until it has ended, or has taken too long."""
    command = [sys.executable, "-m", "pytest", *condition.arguments(), *given]
    began = time.monotonic()
    with output.open("w") as file, condition.meanwhile():
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            code: int | None = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # pytest's faulthandler prints what every thread does
            process.wait()
            code = None
        except BaseException:
            process.terminate()
            process.wait()
            raise
    said = output.read_text(errors="replace")
    return Run(condition.name, code, time.monotonic() - began, output, failed_in(said))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.repeat", description=__doc__)
    parser.add_argument("times", type=int, help="how often")
    parser.add_argument("--processes", default="auto", help="of pytest, where a condition says nothing else")
    asked = parser.parse_args(arguments)
    if asked.times < 1:
        parser.error("times must be at least 1")
    # Who was started with SIGINT ignored (`make test-repeat &`) would hand that down to every program under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = shlex.split(os.environ.get("PYTEST_ARGS", ""))
    folder = Path(tempfile.mkdtemp(prefix="pgflow-repeat-"))
    runs: list[Run] = []
    try:
        for number, condition in enumerate(by_turns(asked.times, conditions(asked.processes)), start=1):
            print(f"--- run {number} of {asked.times}: {condition.name}", flush=True)
            runs.append(carried_out(condition, folder / f"{number}-{condition.name.replace(' ', '-')}.txt", given))
            print(f"    {runs[-1].result} after {runs[-1].seconds:.0f} s", *runs[-1].failed, sep="\n    ", flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        if runs:
            print(table(runs))
    if len(runs) == asked.times and all(run.passed for run in runs):
        shutil.rmtree(folder)
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
