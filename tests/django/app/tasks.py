"""Tasks of Django's framework, as users have them."""

from __future__ import annotations

from typing import Any

import django

import pgflow_starter as pgflow
from tests.django.app.models import Note

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

declare = task


class OddError(Exception):
    """Of nobody but this module."""


@task
def add(a: int, b: int = 1) -> int:
    """Plain."""
    return a + b


@task(queue_name="E-mails")
def send(address: str) -> dict[str, Any]:
    """Of a queue of its own."""
    return {"to": (address,)}


@task(takes_context=True)
def told(context: Any, word: str) -> list[Any]:
    """What its context says."""
    result = context.task_result
    return [word, result.id, result.status, context.attempt, result.args, result.kwargs, result.task == told]


@task
def fail(message: str) -> None:
    """Raises, each time."""
    raise OddError(message)


@task(takes_context=True)
def fail_once(context: Any) -> int:
    """Raises at the first attempt."""
    if context.attempt == 1:
        raise OddError("not yet")
    return int(context.attempt)


@task
def refuse() -> None:
    """Raises what no attempt makes good."""
    raise pgflow.PermanentError("never")


@task(takes_context=True)
def put_off(context: Any) -> int:
    """Wants to be called later, once."""
    if not Note.objects.filter(text="put off").exists():
        Note.objects.create(text="put off")
        raise pgflow.Snooze(0)
    return int(context.attempt)


@task
def unstorable() -> Any:
    """Returns what is no JSON."""
    return object()


@task
async def in_a_loop(text: str) -> int:
    """A coroutine, with the ORM."""
    await Note.objects.acreate(text=text)
    count: int = await Note.objects.acount()
    return count


def undecorated() -> None:
    """Not the task that has its name."""


renamed = task(undecorated)
