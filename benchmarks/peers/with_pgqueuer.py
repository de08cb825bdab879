"""PgQueuer over asyncpg: one consumer, ten jobs a batch.

python with_pgqueuer.py CONNINFO JOBS SAMPLES GAP
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from psycopg.conninfo import conninfo_to_dict
from tally import Tally  # type: ignore[import-not-found] # found beside the program when it runs


async def main() -> None:
    conninfo, jobs, samples, gap = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    given: dict[str, Any] = conninfo_to_dict(conninfo)
    where = {"host": given["host"], "user": given.get("user"), "database": given["dbname"]}
    tally = Tally(jobs)
    working, sending = await asyncpg.connect(**where), await asyncpg.connect(**where)
    queries = Queries(AsyncpgDriver(sending))
    await queries.install()
    runner = PgQueuer(AsyncpgDriver(working))

    @runner.entrypoint("noop")  # type: ignore[untyped-decorator] # where it is not installed
    async def noop(job: Any) -> None:
        tally.handled()

    await queries.enqueue(["noop"] * jobs, [b""] * jobs, [0] * jobs)
    worker = asyncio.create_task(runner.run(batch_size=10))
    while not tally.done:
        await asyncio.sleep(0.01)
    for _ in range(samples):
        await asyncio.sleep(gap)
        tally.asks()
        await queries.enqueue("noop", b"", 0)
        while not tally.answered:
            await asyncio.sleep(0.001)
    runner.shutdown.set()
    await asyncio.wait([worker], timeout=10)
    tally.tell()


asyncio.run(main())
