"""What the worker runs: `manage.py pgflow run` finds it here."""

import pgflow_starter as pgflow
from shop.models import Order

fulfil = pgflow.Flow("fulfil_order", max_attempts=5, base_delay=1)


@fulfil.step()
def pack(given, ctx):
    # Handlers stand being repeated: a task may run twice.
    Order.objects.filter(pk=given["order"]).update(state="packed")
    return {"parcel": f"P-{given['order']}"}


@fulfil.step(depends_on=["pack"])
def ship(deps, ctx):
    Order.objects.filter(pk=ctx.flow_input["order"]).update(state="shipped")
    return deps["pack"]["parcel"]


@pgflow.job("greet_customer")
def greet(given, ctx):
    Order.objects.filter(pk=given["order"]).update(greeted=True)
