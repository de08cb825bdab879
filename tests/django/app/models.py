"""One table."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """A line that a handler leaves."""

    text = models.CharField(max_length=100)

    class Meta:
        app_label = "app"
