"""`manage.py test`: on a copy of the template database, with no worker."""

from django.test import TestCase
from shop.flows import fulfil
from shop.models import Order

import pgflow_starter as pgflow
from pgflow_starter.django import client
from pgflow_starter.testing import run_flow


class OrderTests(TestCase):
    def test_an_order_starts_its_flow_and_greets_once_it_is_committed(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            placed = self.client.post("/orders/", {"customer": "ada"})
        self.assertEqual(len(callbacks), 1)
        page = self.client.get(placed.json()["order"])
        self.assertContains(page, "placed; its run is started")
        self.assertEqual([run.flow_slug for run in client().runs()], ["greet_customer", "fulfil_order"])

    def test_what_is_rolled_back_was_never_started(self):
        self.assertEqual(client().runs(), ())

    def test_the_flow_ships_an_order(self):
        order = Order.objects.create(customer="bob")
        run = run_flow(fulfil, {"order": order.pk}).raise_for_status()
        order.refresh_from_db()
        self.assertEqual((run.result, order.state), (f"P-{order.pk}", "shipped"))

    def test_a_run_that_is_not_there_is_told(self):
        with self.assertRaises(pgflow.RunNotFoundError):
            client().run(pgflow.run_id_of(fulfil, "0"))
