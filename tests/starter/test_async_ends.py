"""However a process ends, or forks, whose event loop has coroutines: no hang, and asyncio has nothing to say."""

from __future__ import annotations

import pytest

from tests.starter.forks import script
from tests.support.programs import finished

SCRIPT = """
import asyncio, sys, threading
import pgflow_starter as pgflow

database, way = sys.argv[1], sys.argv[2]
begun = threading.Semaphore(0)

@pgflow.job("waits")
async def waits(kind, ctx):
    begun.release()
    if kind == "on a thread":
        await asyncio.to_thread(threading.Event().wait, 3600)
    while kind == "stubborn":
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
    left.append(asyncio.create_task(asyncio.sleep(3600)))
    await asyncio.sleep(3600)

left = []
starter = pgflow.start(database, jobs=[waits], signal_strategy="notify", shutdown_timeout=0.1)
for kind in ("alone", "stubborn", "on a thread"):
    starter.client.enqueue(waits, kind)
for _ in range(3):
    assert begun.acquire(timeout=20)
if way == "stop":
    starter.stop()
elif way == "stop it no time":
    starter.stop(0)
"""


@pytest.mark.parametrize("way", ["stop", "stop it no time", "exit"])
def test_a_process_with_coroutines_that_wait_ends_in_time_and_asyncio_has_nothing_to_say(
    database: str, way: str
) -> None:
    done = finished("-X", "dev", "-W", "error", "-c", SCRIPT, database, way)
    assert done.returncode == 0, done.stderr
    for line in done.stderr.splitlines():
        assert line.startswith(("waits: 3 tasks did not end in time", "threads that hang and are abandoned: 1 ("))


def test_a_child_of_a_lazy_starter_has_a_loop_of_its_own_and_the_parents_goes_on(database: str) -> None:
    script(
        """
import asyncio

@pgflow.job("echo")
async def echo(message, ctx):
    await asyncio.sleep(0)
    return message

def child():
    works(starter)
    starter.stop()

starter = started(lazy=True)
works(starter)
for _ in range(3):
    in_child(child)
    works(starter)
starter.stop()
""",
        database,
    )
