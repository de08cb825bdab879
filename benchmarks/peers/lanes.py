"""The table of peers: no-op jobs a second and the time from enqueueing to the handler, on one server by turns.

Every program does the same: jobs that wait are taken by one worker process, from the first handler to the last; then
single jobs are sent to the idle worker. The runners keep different things of a job: the floor is pgflow's own functions
without a runner. Those of others are installed into a virtual environment of their own the first time.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pgflow_starter as pgflow
from benchmarks.child import told_by
from benchmarks.figures import Figure
from benchmarks.plan import Plan
from benchmarks.server import FreshDatabase

PACKAGES = ("procrastinate==3.10.0", "pgqueuer==1.6.0", "asyncpg==0.32.0", "psycopg[binary]==3.3.9")
HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".venv-peers"
SAMPLES = 200
GAP = 0.02
THEIRS = (
    ("bare pgmq loop", "bare_pgmq"),
    ("Procrastinate 3.10.0", "with_procrastinate"),
    ("PgQueuer 1.6.0, asyncpg", "with_pgqueuer"),
)


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each with a fresh database a repetition."""
    lanes = _lanes(str(_installed()))
    told: dict[str, list[dict[str, float]]] = {name: [] for name in lanes}
    for _ in range(plan.repetitions):
        for name, (command, options) in lanes.items():
            with fresh() as conninfo:
                what = [conninfo, str(plan.jobs), str(SAMPLES), str(GAP)]
                told[name].append(told_by([*command, *what, *options]))
    for name, figures in told.items():
        yield Figure(f"{name}: {plan.jobs} no-op jobs", [f["rate"] for f in figures], None, "/s")
        for percent in ("p50", "p99"):
            yield Figure(f"  enqueue → handler, {percent}", [f[percent] for f in figures], None, "ms")


def _lanes(theirs: str) -> dict[str, tuple[list[str], list[str]]]:
    """By name, the command before and after what all of them are told."""
    ours = [sys.executable, str(HERE / "ours.py")]
    return {
        "pgflow_starter": (ours, ["auto"]),
        "pgflow_starter, fast_lane='off'": (ours, ["off"]),
        "the floor: the core's functions": ([sys.executable, "-m", "benchmarks.peers.core_functions"], []),
        **{name: ([theirs, str(HERE / f"{program}.py")], []) for name, program in THEIRS},
    }


def _installed() -> Path:
    """Their Python. Raises PgflowError where they cannot be installed."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / ".installed"
    wanted = "\n".join(PACKAGES)
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        venv.create(FOLDER, with_pip=True, clear=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *PACKAGES], capture_output=True, text=True, check=False
        )
        if done.returncode:
            msg = f"the peers could not be installed: {done.stderr[-500:]}"
            raise pgflow.PgflowError(msg)
        stamp.write_text(wanted, encoding="utf-8")
    return python
