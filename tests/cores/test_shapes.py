"""The shape of a flow is one, whichever runtime compiles it: each calls verified what the other has compiled."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.compiled import Compiled
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from tests.cores.stand_in import Admin
from tests.support.database import NoScope, opened
from tests.support.starters import running, state

UNDEFINED = {"defined": False}
UNCONDITIONAL = {
    "whenUnmet": "skip",
    "whenExhausted": "fail",
    "requiredInputPattern": UNDEFINED,
    "forbiddenInputPattern": UNDEFINED,
}
# What the TypeScript runtime sends of a diamond, one side of which was declared before the other.
ORDER: dict[str, Any] = {
    "slug": "order",
    "stepType": "single",
    "dependencies": [],
    **UNCONDITIONAL,
    "forbiddenInputPattern": {"defined": True, "value": {"test": True}},
    "whenUnmet": "fail",
}
GIFT: dict[str, Any] = {
    "slug": "gift",
    "stepType": "single",
    "dependencies": ["order"],
    **UNCONDITIONAL,
    "requiredInputPattern": {"defined": True, "value": {"order": {"vip": True, "tags": ["new", 1.5]}}},
    "whenExhausted": "skip",
}
LINES: dict[str, Any] = {
    "slug": "lines",
    "stepType": "map",
    "dependencies": ["order"],
    "whenUnmet": "skip-cascade",
    "whenExhausted": "skip-cascade",
    "requiredInputPattern": {"defined": True, "value": {"order": []}},
    "forbiddenInputPattern": {"defined": True, "value": {"order": [None]}},
}
PARCEL: dict[str, Any] = {
    "slug": "parcel",
    "stepType": "single",
    "dependencies": ["gift", "lines"],
    **UNCONDITIONAL,
}
ORDERS = {"gift first": [ORDER, GIFT, LINES, PARCEL], "lines first": [ORDER, LINES, GIFT, PARCEL]}
SLUGS = [pytest.param(steps, id=name) for name, steps in ORDERS.items()]


def handler(given: Any, ctx: Any) -> Any:
    return given


def diamond(steps: list[dict[str, Any]]) -> pgflow.Flow:
    """The same, as one declares it here."""
    flow = pgflow.Flow("shipping")
    flow.step(slug="order", if_not={"test": True}, when_unmet="fail")(handler)

    def gift() -> None:
        pattern = {"order": {"tags": ["new", 1.5], "vip": True}}
        flow.step(slug="gift", depends_on=["order"], if_=pattern, when_exhausted="skip")(handler)

    def lines() -> None:
        words: dict[str, Any] = {"when_unmet": "skip-cascade", "when_exhausted": "skip-cascade"}
        flow.map("order", slug="lines", if_={"order": []}, if_not={"order": [None]}, **words)(handler)

    for step in steps[1:3]:
        gift() if step is GIFT else lines()
    flow.step(slug="parcel", depends_on=["lines", "gift"])(handler)
    return flow


def compiled(database: str, flow: pgflow.Flow) -> Compiled:
    """By this runtime."""
    with opened(database) as db:
        return PostgresFlowStore(db, SystemClock()).compile(flow.__pgflow_definition__(), NoScope())


def ensured(database: str, steps: list[dict[str, Any]]) -> object:
    """What the core answers to the other runtime."""
    given = [dict(step, options={"maxAttempts": 2}) for step in steps]
    with psycopg.connect(database, autocommit=True) as admin:
        row = admin.execute("select pgflow.ensure_flow_compiled('shipping', %s)", (Jsonb({"steps": given}),)).fetchone()
    assert row is not None
    answer: Any = row[0]
    return answer["status"]


def shape(database: str) -> object:
    """The core's own word for what is stored."""
    with psycopg.connect(database, autocommit=True) as admin:
        row = admin.execute("select pgflow._get_flow_shape('shipping')").fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("steps", SLUGS)
def test_what_we_compile_is_what_the_other_runtime_would_have_compiled(
    newer_database: str, steps: list[dict[str, Any]]
) -> None:
    assert compiled(newer_database, diamond(steps)).created
    assert shape(newer_database) == {"steps": steps}
    assert ensured(newer_database, steps) == "verified"


@pytest.mark.parametrize("steps", SLUGS)
def test_what_the_other_runtime_compiled_is_verified_here(newer_database: str, steps: list[dict[str, Any]]) -> None:
    assert ensured(newer_database, steps) == "compiled"
    verified = compiled(newer_database, diamond(steps))
    assert not verified.created
    assert not [told for told in verified.differences if "max_attempts" not in told]
    assert [step.slug for step in verified.definition.steps] == [step["slug"] for step in steps]


def test_another_order_is_a_difference_to_the_other_runtime_and_told_here(newer_database: str) -> None:
    gift_first, lines_first = ORDERS.values()
    assert compiled(newer_database, diamond(gift_first)).created
    (told,) = compiled(newer_database, diamond(lines_first)).differences
    assert told.startswith("its steps are in the order order, gift, lines, parcel in the database")
    assert ensured(newer_database, gift_first) == "verified"
    assert ensured(newer_database, lines_first) != "verified"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"whenUnmet": "skip"}, "when_unmet of step 'order' is 'skip' in the database and 'fail' in the code"),
        ({"whenExhausted": "skip"}, "when_exhausted of step 'order' is 'skip' in the database and 'fail' in the code"),
        (
            {"requiredInputPattern": {"defined": True, "value": {"b": 2, "a": 1.0}}},
            'if_ of step \'order\' is {"a": 1, "b": 2} in the database and not given in the code',
        ),
        (
            {"forbiddenInputPattern": {"defined": True, "value": {"test": 1}}},
            'if_not of step \'order\' is {"test": 1} in the database and {"test": true} in the code',
        ),
    ],
)
def test_a_difference_names_step_field_and_both_values(newer_database: str, change: dict[str, Any], told: str) -> None:
    steps = ORDERS["gift first"]
    assert ensured(newer_database, [{**ORDER, **change}, *steps[1:]]) == "compiled"
    with pytest.raises(pgflow.ShapeMismatchError) as refused:
        compiled(newer_database, diamond(steps))
    assert told in str(refused.value)
    assert str(refused.value).count(" in the database and ") == 1


def test_a_flow_with_conditions_fails_for_good_where_the_core_has_none(database: str, admin: Admin) -> None:
    conditions = admin.execute(
        "select from pg_attribute where attrelid = 'pgflow.steps'::regclass and attname = 'when_unmet'"
    ).fetchone()
    flow = diamond(ORDERS["gift first"])
    if conditions is not None:
        assert compiled(database, flow).created
        return
    with pytest.raises(pgflow.NotInstalledError), pgflow.PgflowClient(database) as client:
        client.start_flow(flow)
    plain, conditional = pgflow.Flow("shipping"), pgflow.Flow("shipping")
    plain.step(slug="order")(handler)
    conditional.step(slug="order", when_exhausted="skip")(handler)
    for _ in range(2):  # where it is not stored, and where another one is, without conditions
        with running(database, flows=[conditional]) as starter:
            starter.await_ready(20)
            failed = state(starter, conditional)
        assert failed.status == "failed_permanent"
        assert failed.last_error is not None
        assert "flow 'shipping' has conditions (on 'order')" in failed.last_error.reason
        assert "core 0.14. Upgrade it: run `pgflow-starter db upgrade`" in failed.last_error.reason
        compiled(database, plain)
