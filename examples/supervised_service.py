"""A starter in a supervision tree of your own, after the actor that its handlers need: if that dies, both start anew.

    python examples/supervised_service.py [DSN]

Without a DSN it runs on an embedded PostgreSQL.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import pgflow_starter as pgflow
from pgflow_starter.supervision import Actor, ChildSpec, SupervisorActor, SupervisorFlags
from pgflow_starter.testing import EmbeddedPostgres, install


class Rates(Actor):
    """Today's exchange rates."""

    lives = SimpleQueue()

    def on_start(self):
        Rates.current = self.actor_ref
        Rates.lives.put(self.actor_ref)

    def of(self, currency):
        return {"yen": 0.006, "pounds": 1.15}[currency]


@pgflow.job("convert")
def convert(money, ctx):
    rate = Rates.current.proxy().of(money["currency"]).get(timeout=5)
    return f"{money['amount']} {money['currency']} are {money['amount'] * rate:.2f} euros"


def main(dsn: str) -> None:
    children = [ChildSpec("rates", Rates.start), pgflow.child_spec(dsn, jobs=[convert], signal_strategy="notify")]
    supervisor = SupervisorActor.start("shop", children, flags=SupervisorFlags(strategy="rest_for_one"))
    starter = pgflow.starter_of(supervisor)  # its children have been started now
    starter.await_ready(timeout=30)
    print(starter.client.enqueue(convert, {"amount": 1000, "currency": "yen"}).wait(timeout=10).result)

    # An actor that is stopped by a stranger has crashed. The starter is stopped first, and started after it.
    Rates.lives.get().stop()
    Rates.lives.get()
    print({child.id: child.restarts for child in supervisor.proxy().which_children().get()})

    # The handle is still the same.
    print(starter.client.enqueue(convert, {"amount": 20, "currency": "pounds"}).wait(timeout=10).result)

    # In reverse: first the starter, whose tasks may end, then what they need.
    supervisor.stop()
    try:
        starter.status()
    except pgflow.StarterStopped as error:
        print(error)


@contextmanager
def database() -> Iterator[str]:
    if len(sys.argv) > 1:
        yield sys.argv[1]
        return
    with EmbeddedPostgres() as server:
        install(server.conninfo())
        yield server.conninfo()


if __name__ == "__main__":
    with database() as given:
        main(given)
