from functools import partial

from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.views.decorators.http import require_GET, require_POST

import pgflow_starter as pgflow
from pgflow_starter.django import client
from shop.flows import fulfil, greet
from shop.models import Order


@require_POST
def place(request):
    with transaction.atomic():
        order = Order.objects.create(customer=request.POST["customer"])
        # Django's own connection: the order and its run are stored both, or neither of them.
        client().start_flow(fulfil, {"order": order.pk}, key=str(order.pk))
        # What may be lost if the process dies in between.
        transaction.on_commit(partial(client().enqueue, greet, {"order": order.pk}))
    return JsonResponse({"order": reverse("order", args=[order.pk])}, status=201)


@require_GET
def show(request, pk):
    order = get_object_or_404(Order, pk=pk)
    run = client().run(pgflow.run_id_of(fulfil, str(pk)))
    steps = format_html_join("", "<li>{}: {}</li>", ((step.slug, step.status) for step in run.steps()))
    page = "<!doctype html>{}<h1>Order {} of {}</h1><p>{}; its run is {}</p><ul>{}</ul>"
    refresh = "" if run.finished else format_html('<meta http-equiv="refresh" content="{}">', 1)
    return HttpResponse(format_html(page, refresh, order.pk, order.customer, order.state, run.status, steps))
