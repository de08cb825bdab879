"""Crashes, restarts and the LISTEN connection: events, a span each, a counter."""

from __future__ import annotations

from functools import partial

import psycopg
import pykka
from opentelemetry.trace import StatusCode

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.supervision import Actor, ChildSpec, Restart, SupervisorActor
from pgflow_starter.telemetry.incidents import OtelIncidents
from pgflow_starter.telemetry.observer import OtelObserver
from pgflow_starter.telemetry.providers import Providers
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard, attributes

WAIT = 20.0
_END_LISTENERS = """
select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%' and pid <> pg_backend_pid()
"""


def test_a_crash_and_the_restart_after_it_are_one_span(database: str, heard: Heard) -> None:
    with running(database, jobs=[echo_job()], **heard.settings) as starter:
        starter.await_ready(WAIT)
        (ref,) = pykka.ActorRegistry.get_by_class(pgflow.StarterActor)
        ref.tell({"no": "method of this name"})  # pykka's own: an unexpected message is let pass
        ref.stop()
        (span,) = heard.await_spans("pgflow.actor restart")
        (counted,) = eventually(lambda: heard.points("pgflow.actor.restarts"))
    (start,) = heard.spans("pgflow.starter start")
    actor = {"pgflow.actor.supervisor": "root", "pgflow.actor.id": "starter"}
    assert attributes(span) == {**actor, "error.type": "Stopped"}
    assert [link.context.span_id for link in span.links] == [start.context.span_id]
    assert span.parent is None
    assert [event.name for event in span.events] == ["pgflow.actor.crash", "pgflow.actor.restart"]
    (crash,) = heard.events("pgflow.actor.crash")
    (restart,) = heard.events("pgflow.actor.restart")
    assert crash.log_record.span_id == restart.log_record.span_id == span.context.span_id
    assert (crash.log_record.severity_text, restart.log_record.severity_text) == ("ERROR", "WARN")
    assert dict(counted.attributes) == actor
    assert counted.value == 1


class Fragile(Actor):
    """Dies of what it is told."""

    def on_receive(self, message: BaseException) -> None:
        raise message


def test_of_what_an_actor_dies_only_the_type_is_told(heard: Heard) -> None:
    providers = Providers(SystemClock(), heard.tracer_provider, heard.meter_provider, heard.logger_provider)
    observer = OtelObserver(providers, SystemClock(), str)
    incidents = OtelIncidents(providers, observer, SystemClock())
    specs = [
        ChildSpec("kept", Fragile.start),
        ChildSpec("let_go", Fragile.start, restart=Restart.TEMPORARY),
    ]
    ref = SupervisorActor.start("shop", specs, observer=incidents)
    supervisor = ref.proxy()
    try:
        supervisor.child("kept").get().tell(ValueError("the token is t0k3n"))
        supervisor.child("let_go").get().tell(pgflow.DatabaseError("gone", sqlstate="57P01"))
        kept, let_go = sorted(
            heard.await_spans("pgflow.actor restart", 2), key=lambda s: str(attributes(s)["pgflow.actor.id"])
        )
    finally:
        ref.stop()
    assert attributes(kept)["error.type"] == "ValueError"
    assert attributes(let_go)["error.type"] == attributes(let_go)["db.response.status_code"] == "57P01"
    assert [e.name for e in kept.events] == ["pgflow.actor.crash", "pgflow.actor.restart"]
    assert [e.name for e in let_go.events] == ["pgflow.actor.crash"]
    assert kept.status.status_code is let_go.status.status_code is StatusCode.ERROR
    assert "t0k3n" not in kept.to_json()


def test_an_observer_that_raises_costs_its_supervisor_nothing() -> None:
    class Bad:
        def died(self, supervisor: str, actor: str, reason: BaseException | None, *, restarting: bool) -> None:
            raise RuntimeError("no")

        def restarted(self, supervisor: str, actor: str) -> None:
            raise RuntimeError("no")

    ref = SupervisorActor.start("shop", [ChildSpec("kept", Fragile.start)], observer=Bad())
    try:
        before = ref.proxy().child("kept").get()
        before.tell(ValueError("x"))
        eventually(lambda: ref.proxy().child("kept").get() not in (None, before))
    finally:
        ref.stop()


def test_the_loss_and_return_of_the_listen_connection_are_a_span_as_long(database: str, heard: Heard) -> None:
    with running(database, jobs=[echo_job()], signal_strategy="notify", **heard.settings) as starter:
        starter.await_ready(WAIT)
        with psycopg.connect(database, autocommit=True) as admin:
            ended = admin.execute(_END_LISTENERS).fetchall()
        assert ended
        (span,) = heard.await_spans("pgflow.notify reconnect")
    assert [event.name for event in span.events] == ["pgflow.notify.disconnected", "pgflow.notify.reconnected"]
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.events[0].timestamp == span.start_time
    assert span.events[1].timestamp == span.end_time
    (lost,) = heard.events("pgflow.notify.disconnected")
    (back,) = heard.events("pgflow.notify.reconnected")
    assert lost.log_record.severity_text == "WARN"
    assert attributes(lost)["error.type"] in ("57P01", "OperationalError")  # by whether its last word was read
    assert back.log_record.span_id == span.context.span_id


def test_a_supervisor_that_gives_up_leaves_no_span_open(heard: Heard) -> None:
    providers = Providers(SystemClock(), heard.tracer_provider, heard.meter_provider, heard.logger_provider)
    incidents = OtelIncidents(providers, OtelObserver(providers, SystemClock(), str), SystemClock())
    die = partial(incidents.died, reason=ValueError("x"), restarting=True)
    die("workers", "shop")
    die("root", "workers")
    assert [attributes(s)["pgflow.actor.id"] for s in heard.spans("pgflow.actor restart")] == ["shop"]
    incidents.closed()
    assert len(heard.spans("pgflow.actor restart")) == 2
