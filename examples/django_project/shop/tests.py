"""`manage.py test`: on a copy of the template database, with no worker."""

from django.test import TestCase

from pgflow_starter.django import client
from pgflow_starter.testing import run_flow
from shop.flows import fulfil
from shop.models import Order


class OrderTests(TestCase):
    def test_an_order_starts_its_flow_and_greets_once_it_is_committed(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            placed = self.client.post("/orders/", {"customer": "ada"})
            assert [run.flow_slug for run in client().runs()] == ["fulfil_order"]
        assert len(callbacks) == 1
        assert {run.flow_slug for run in client().runs()} == {"fulfil_order", "greet_customer"}
        self.assertContains(self.client.get(placed.json()["order"]), "placed; its run is started")

    def test_the_runs_of_one_test_are_not_there_in_the_next(self):
        assert client().runs() == ()

    def test_the_flow_ships_an_order(self):
        order = Order.objects.create(customer="bob")
        run = run_flow(fulfil, {"order": order.pk}).raise_for_status()
        order.refresh_from_db()
        assert (run.result, order.state) == (f"P-{order.pk}", "shipped")
