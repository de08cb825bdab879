"""The setting PGFLOW, and what DATABASES says as a connection string."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from psycopg.conninfo import conninfo_to_dict

from pgflow_starter.django import conninfo
from tests.django.conftest import Databases, of

POSTGRESQL = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}
SECRET = "hunter2"
ODD = "it's \\ a p@ss word?#%/ü"


@contextmanager
def a_middleware(ctx: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ({"HOST": "/run/pg", "PORT": "6432", "USER": "ada"}, {"host": "/run/pg", "port": "6432", "user": "ada"}),
        ({"HOST": "db", "PORT": 6432, "PASSWORD": ODD}, {"host": "db", "port": "6432", "password": ODD}),
        (
            {"OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/c a/root.crt", "passfile": "/run/secrets/pg"}},
            {"sslmode": "verify-full", "sslrootcert": "/c a/root.crt", "passfile": "/run/secrets/pg"},
        ),
        ({"NAME": "", "OPTIONS": {"service": "shop"}}, {"dbname": None, "service": "shop"}),
        ({"OPTIONS": {"pool": True, "isolation_level": 4, "server_side_binding": True, "connect_timeout": 3}},
         {"connect_timeout": "3"}),
        ({"OPTIONS": {"assume_role": "a b", "options": "-c jit=off"}}, {"options": "-c jit=off -c role=a\\ b"}),
    ],
    ids=["a socket", "an odd password", "files", "a service", "Django's own options", "a role"],
)  # fmt: skip
def test_a_connection_string_says_what_django_connects_with(
    databases: Databases, configured: dict[str, Any], expected: dict[str, Any]
) -> None:
    databases(default={**POSTGRESQL, **configured})
    told = conninfo_to_dict(conninfo())
    assert told.pop("client_encoding") == "UTF8"
    assert told == {name: value for name, value in {"dbname": "shop", **expected}.items() if value is not None}


def test_the_connection_string_leads_there_in_the_role_that_django_assumes(database: str, databases: Databases) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute('create role "odd \\role"')
        try:
            databases(default=of(database, OPTIONS={"assume_role": "odd \\role"}))
            with psycopg.connect(conninfo()) as connection:
                assert connection.execute("select current_user::text").fetchone() == ("odd \\role",)
        finally:
            admin.execute('drop role "odd \\role"')


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "PGFLOW must be a dict, got a list"),
        (f"postgresql://ada:{SECRET}@db/shop", "PGFLOW must be a dict, got a str"),
        ({"Start": {}}, "PGFLOW has the unknown key 'Start' (did you mean 'START'?)"),
        ({"DATABASE": "no"}, "PGFLOW['DATABASE']: 'no' is none of the aliases in DATABASES: 'default', 'lite'"),
        (
            {"DATABASE": f"postgresql://ada:{SECRET}@db/shop"},
            "PGFLOW['DATABASE']: a str is none of the aliases in DATABASES: 'default', 'lite'",
        ),
        ({"DATABASE": None}, "PGFLOW['DATABASE']: None is none of the aliases in DATABASES: 'default', 'lite'"),
        ({"DATABASE": ["default"]}, "PGFLOW['DATABASE']: a list is none of the aliases in DATABASES: 'default', 'lite"),
        ({f"password={SECRET} x": 1}, "PGFLOW has the unknown key a str: it has ['DATABASE', 'START']"),
        ({"START": f"host=db password={SECRET}"}, "PGFLOW['START']: must be a dict of settings of pgflow_s"),
        ({"START": {5: 1}}, "PGFLOW['START']: settings have names, got 5"),
        (
            {"DATABASE": "lite"},
            "PGFLOW['DATABASE']: DATABASES['lite'] is of the engine 'django.db.backends.sqlite3', and pgflow n",
        ),
        ({"START": 1}, "PGFLOW['START']: must be a dict of settings of pgflow_starter.start, got 1"),
        (
            {"DATABSE": "lite", "START": {"pool_size": 0, "jobs": []}},
            "PGFLOW has the unknown key 'DATABSE' (did you mean 'DATABASE'?); PGFLOW['START']: unknown setting 'jobs'",
        ),
        ({"START": {"schedules": []}}, "PGFLOW['START']: schedules are found in the flows.py of installed apps"),
        ({"START": {"middleware": ["no.such"]}}, "PGFLOW['START']: No module named 'no'"),
    ],
    ids=[
        "no dict",
        "a string",
        "a key",
        "an alias",
        "a string for an alias",
        "None for an alias",
        "a list for an alias",
        "a string for a key",
        "a string for start",
        "a number for a setting's name",
        "an engine",
        "start",
        "several",
        "schedules",
        "middleware",
    ],
)
def test_a_bad_setting_is_one_error_of_django_s_checks(databases: Databases, given: Any, told: str) -> None:
    databases(default=POSTGRESQL, lite={"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"})
    with override_settings(PGFLOW=given):
        errors = [error for error in run_checks() if error.id == "pgflow.E001"]
        assert [error.msg[: len(told)] for error in errors] == [told]
        assert not any(SECRET in error.msg for error in errors)
        with pytest.raises(ImproperlyConfigured, match=re.escape(told)):
            conninfo()


def test_what_is_right_is_no_error(databases: Databases) -> None:
    databases(default={"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, pg=POSTGRESQL)
    start = {"signal_strategy": "notify", "middleware": ["tests.django.test_conf.a_middleware", a_middleware]}
    with override_settings(PGFLOW={"DATABASE": "pg", "START": start}):
        assert run_checks() == []
