"""`client`: starts runs, and asks for them, on Django's own connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps

from pgflow_starter.django.conf import configured

if TYPE_CHECKING:
    from pgflow_starter.postgres.client.lent import LentClient


def client(using: str | None = None) -> LentClient:
    """The client of a database in DATABASES, by its alias; without `using` of the one that PGFLOW names.

    It starts and reads runs on Django's connection of the calling thread: within `transaction.atomic` as a part of that
    transaction, else at once. What it does beside, such as bringing a flow into the database that is not there yet, it
    does in a session that ends with the call. Safe from any thread. Its calls raise as those of `PgflowClient`, and
    what Django raises where its connection cannot be used. Raises ImproperlyConfigured, LookupError where the app is
    not installed.
    """
    config = apps.get_app_config("pgflow")
    made: LentClient = config.client(configured().database if using is None else using)
    return made
