"""What a worker of the project runs."""

from __future__ import annotations

from typing import Any

import pgflow_starter as pgflow
from tests.django.app.models import Note


@pgflow.job("note", base_delay=0)
def note(message: Any, ctx: Any) -> Any:
    """Write a line, by the ORM; which attempt it was."""
    Note.objects.create(text=message)
    return ctx.attempt


hourly = pgflow.Schedule("0 * * * *", note, input="the hour")
also = note
