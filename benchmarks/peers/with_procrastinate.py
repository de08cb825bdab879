"""Procrastinate: one worker, ten jobs at a time.

python with_procrastinate.py CONNINFO JOBS SAMPLES GAP
"""

from __future__ import annotations

import asyncio
import sys

import procrastinate
from tally import Tally  # type: ignore[import-not-found] # found beside the program when it runs


async def main() -> None:
    conninfo, jobs, samples, gap = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    tally = Tally(jobs)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo))

    @app.task(name="noop", queue="bench")  # type: ignore[untyped-decorator] # where it is not installed
    async def noop() -> None:
        tally.handled()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await noop.batch_defer_async(*[{}] * jobs)
        worker = asyncio.create_task(app.run_worker_async(concurrency=10, install_signal_handlers=False))
        while not tally.done:
            await asyncio.sleep(0.01)
        for _ in range(samples):
            await asyncio.sleep(gap)
            tally.asks()
            await noop.defer_async()
            while not tally.answered:
                await asyncio.sleep(0.001)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    tally.tell()


asyncio.run(main())
