"""The table of peers: no-op jobs a second and the time from enqueueing to the handler, on one server by turns.

Every program does the same: jobs that wait are taken by one worker process, from the first handler to the last; then
single jobs are sent to the idle worker. There is no floor: the runners keep different things of a job. Theirs are
installed into a virtual environment of their own the first time.
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
LANES = (
    ("pgflow_starter", "ours"),
    ("bare pgmq loop", "bare_pgmq"),
    ("Procrastinate 3.10.0", "with_procrastinate"),
    ("PgQueuer 1.6.0, asyncpg", "with_pgqueuer"),
)


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each with a fresh database a repetition."""
    theirs = _installed()
    told: dict[str, list[dict[str, float]]] = {name: [] for name, _ in LANES}
    for _ in range(plan.repetitions):
        for name, program in LANES:
            python = sys.executable if program == "ours" else str(theirs)
            with fresh() as conninfo:
                command = [python, str(HERE / f"{program}.py"), conninfo, str(plan.jobs), str(SAMPLES), str(GAP)]
                told[name].append(told_by(command))
    for name, figures in told.items():
        yield Figure(f"{name}: {plan.jobs} no-op jobs", [f["rate"] for f in figures], None, "/s")
        for percent in ("p50", "p99"):
            yield Figure(f"  enqueue → handler, {percent}", [f[percent] for f in figures], None, "ms")


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
