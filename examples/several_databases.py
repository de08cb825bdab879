"""Two databases, a starter each, under one supervisor: jobs are spread by a key, and one database's outage is its own.

    python examples/several_databases.py [DSN DSN]

Without DSNs it runs on an embedded PostgreSQL with two databases.
"""

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

import pgflow_starter as pgflow
from pgflow_starter.supervision import SupervisorActor
from pgflow_starter.testing import EmbeddedPostgres, install


@pgflow.job("invoice")
def invoice(order, ctx):
    return f"invoice for {order['customer']}"


class Shop:
    """Which database a customer's jobs live in. Always the same one: a run is found where it was started."""

    def __init__(self, supervisor, count: int) -> None:
        self.starters = [pgflow.starter_of(supervisor, f"pgflow-{n}") for n in range(count)]

    def starter_for(self, customer: str):
        # Not hash(): that is another in each process.
        return self.starters[zlib.crc32(customer.encode()) % len(self.starters)]


def main(dsns: list[str]) -> None:
    # one_for_one, the default: a starter that gives up is started anew, and the others go on.
    children = [pgflow.child_spec(dsn, id=f"pgflow-{n}", jobs=[invoice], pool_size=4) for n, dsn in enumerate(dsns)]
    supervisor = SupervisorActor.start("shop", children)
    shop = Shop(supervisor, len(dsns))
    for starter in shop.starters:
        starter.await_ready(timeout=30)

    for customer in ("ada", "bob", "carol"):
        run = shop.starter_for(customer).client.enqueue(invoice, {"customer": customer})
        print(run.wait(timeout=10).result)

    print([starter.healthy() for starter in shop.starters])
    supervisor.stop()


@contextmanager
def databases() -> Iterator[list[str]]:
    if len(sys.argv) > 1:
        yield sys.argv[1:]
        return
    with EmbeddedPostgres() as server:
        with psycopg.connect(server.conninfo(), autocommit=True) as conn:
            conn.execute("create database north")
            conn.execute("create database south")
        dsns = [server.conninfo("north"), server.conninfo("south")]
        for dsn in dsns:
            install(dsn)
        yield dsns


if __name__ == "__main__":
    with databases() as given:
        main(given)
