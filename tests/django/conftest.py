"""A Django project in this process; each test has its own databases behind Django's aliases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.databases import fresh_database

TASKS: dict[str, Any] = {
    "default": {
        "BACKEND": "pgflow_starter.django.tasks.PgflowBackend",
        "QUEUES": ["default", "E-mails"],
        "OPTIONS": {"base_delay": 0},
    }
}

settings.configure(
    INSTALLED_APPS=[
        "pgflow_starter.django",
        "tests.django.app",
        *(["django_tasks"] if django.VERSION < (6, 0) else []),
    ],
    DATABASES={},
    TASKS=TASKS,
    USE_TZ=True,
    LOGGING_CONFIG=None,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import connections  # noqa: E402 - not before the settings

from pgflow_starter.django import client  # noqa: E402
from tests.django.app.models import Note  # noqa: E402

Databases = Callable[..., None]


def of(conninfo: str, **more: Any) -> dict[str, Any]:
    """A database as DATABASES has it."""
    given = conninfo_to_dict(conninfo)
    named = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **{key: str(given.get(name, "")) for key, name in named.items()},
        **more,
    }


@pytest.fixture
def databases() -> Iterator[Databases]:
    """Has DATABASES be what it is called with, by alias, in all threads that have not asked for them yet."""

    def forget_here() -> None:
        for alias in list(connections.settings):
            connection = connections[alias]
            del connections[alias]
            connection.close()
            if connection.vendor == "postgresql":
                connection.close_pool()

    def forget() -> None:
        forget_here()
        SyncToAsync.single_thread_executor.submit(forget_here).result()  # where coroutines have the ORM work

    def be(**configured: Any) -> None:
        forget()
        connections.settings = connections.configure_settings(configured)

    before = connections.settings
    yield be
    forget()
    connections.settings = before


@pytest.fixture
def project(database: str, databases: Databases) -> Iterator[str]:
    """The connection string of the project's database, which has its table."""
    databases(default=of(database))
    with connections["default"].schema_editor() as editor:
        editor.create_model(Note)
    used = client()
    yield database
    used.close()  # the thread that it had for a moment waits for more, else


@pytest.fixture
def other(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The connection string of another database with pgflow in it."""
    with fresh_database(server, template) as conninfo:
        yield conninfo
