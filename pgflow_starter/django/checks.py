"""What `manage.py check`, and with it every command, says of the setting PGFLOW."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from pgflow_starter.django.conf import configured


def check_setting(**_: Any) -> list[CheckMessage]:
    """An error where something is wrong with it."""
    try:
        configured()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="pgflow.E001")]
    return []
