"""What `import pgflow_starter` takes: time and memory, beside importing bare what it is made of.

The floor is a process that imports psycopg, psycopg_pool, pykka and OpenTelemetry's API. A program that uses us
asks for a name, and the first name brings all; the bare import is for the record. Each is a fresh process with its
bytecode cached, all by turns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.child import told_by
from benchmarks.figures import Figure
from benchmarks.plan import Plan

FOUR = (
    "import psycopg, psycopg_pool, pykka;"
    " from opentelemetry import _logs, context, metrics, propagate, trace"  # the API, as far as there is one
)
OURS = "import pgflow_starter; pgflow_starter.start"
BARE = "import pgflow_starter"
EACH = 5
"""Processes for each repetition, the least of which counts: an import is disturbed by much, and sped up by nothing."""

_PROGRAM = """
import time
began = time.perf_counter()
{imports}
seconds = time.perf_counter() - began
import json
with open("/proc/self/statm") as statm:
    pages = int(statm.read().split()[1])
import os
print(json.dumps({{"ms": seconds * 1e3, "mb": pages * os.sysconf("SC_PAGE_SIZE") / 2**20}}))
"""


def measure(plan: Plan) -> Iterator[Figure]:
    """Times and memory, and how much more ours are than the floor's."""
    for imports in (FOUR, OURS, BARE):
        _run(imports)  # writes the bytecode
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    floor: list[dict[str, float]] = []
    for _ in range(plan.repetitions):
        runs = [(_run(FOUR), _run(OURS), _run(BARE)) for _ in range(EACH)]
        for kept, index in ((floor, 0), (ours, 1), (bare, 2)):
            kept.append({unit: min(run[index][unit] for run in runs) for unit in ("ms", "mb")})
    for unit, name, target in (("ms", "ms", 60.0), ("mb", "MB", 4.0)):
        more = [o[unit] - f[unit] for o, f in zip(ours, floor, strict=True)]
        yield Figure("import pgflow_starter and start: more than the bare four", more, target, name)
        yield Figure("  import pgflow_starter and start", [o[unit] for o in ours], None, name)
        yield Figure("  the bare four", [f[unit] for f in floor], None, name)
        yield Figure("  import pgflow_starter alone", [b[unit] for b in bare], None, name)


def _run(imports: str) -> dict[str, float]:
    return told_by([sys.executable, "-c", _PROGRAM.format(imports=imports)])
