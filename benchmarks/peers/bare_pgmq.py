"""A loop over a pgmq queue: reads ten, handles them, deletes them in one statement; LISTENs when there is none.

python bare_pgmq.py CONNINFO JOBS SAMPLES GAP
"""

from __future__ import annotations

import sys
import threading

import psycopg
from tally import Tally  # type: ignore[import-not-found] # found beside the program when it runs

conninfo, jobs, samples, gap = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
tally = Tally(jobs)
ended = threading.Event()


def work() -> None:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute('listen "pgmq.q_bare.INSERT"')
        while not ended.is_set():
            rows = conn.execute("select msg_id from pgmq.read('bare', 60, 10)").fetchall()
            for _ in rows:
                tally.handled()
            if rows:
                conn.execute("select pgmq.delete('bare', %s::bigint[])", ([row[0] for row in rows],))
            else:
                for _ in conn.notifies(timeout=0.5, stop_after=1):
                    pass


with psycopg.connect(conninfo, autocommit=True) as sender:
    sender.execute("select pgmq.create('bare'), pgmq.send_batch('bare', array_fill('1'::jsonb, array[%s]))", (jobs,))
    sender.execute("select pgmq.enable_notify_insert('bare', 0)")
    thread = threading.Thread(target=work)
    thread.start()
    while not tally.done:
        ended.wait(0.01)
    for _ in range(samples):
        ended.wait(gap)
        tally.asks()
        sender.execute("select pgmq.send('bare', '1'::jsonb)")
        while not tally.answered:
            ended.wait(0.001)
    ended.set()
    thread.join()
tally.tell()
