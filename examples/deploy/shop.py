"""What the other files in this folder deploy: `pgflow-starter run shop:order shop:send_email`."""

import pgflow_starter as pgflow

order = pgflow.Flow("order", max_attempts=5, timeout=30)


@order.step()
def lines(order, ctx):
    return order["lines"]


@order.map(array="lines")
def price(line, ctx):
    return line["pieces"] * line["cents"]


@order.step(depends_on=["price"])
def invoice(deps, ctx):
    return {"customer": ctx.flow_input["customer"], "cents": sum(deps["price"])}


@pgflow.job("send_email", max_attempts=5, timeout=60)
def send_email(message, ctx):
    return f"to {message['to']}"
