"""The app: what it checks, and the clients of this process."""

from __future__ import annotations

import os

from django.apps import AppConfig
from django.core import checks

from pgflow_starter.clock import SystemClock
from pgflow_starter.django.checks import check_setting
from pgflow_starter.django.conf import conninfo, lent
from pgflow_starter.postgres.client.lent import LentClient
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.providers import Providers


class PgflowConfig(AppConfig):
    """As Django asks for it."""

    name = "pgflow_starter.django"
    label = "pgflow"
    verbose_name = "pgflow"

    def ready(self) -> None:
        """As Django asks for it."""
        checks.register(check_setting)
        self._clients: dict[tuple[int, str, str], LentClient] = {}

    def client(self, alias: str) -> LentClient:
        """That of the database of this alias, one in each process. Thread-safe."""
        # The connection string is another one in tests, and a child has nothing of its parent's.
        which = os.getpid(), alias, conninfo(alias)
        if which not in self._clients:
            clock = SystemClock()
            made = LentClient(which[-1], lambda: lent(alias), OtelMessages(Providers(clock), clock), clock)
            self._clients.setdefault(which, made)
        return self._clients[which]
