"""The namespace of `pgflow_starter.testing`: a server and the setup are there too, and cost nothing until then."""

from __future__ import annotations

import pytest

from pgflow_starter import testing
from tests.support.programs import finished


def test_every_name_is_there() -> None:
    for name in testing.__all__:
        assert hasattr(testing, name)
    with pytest.raises(AttributeError, match=r"module 'pgflow_starter.testing' has no attribute 'begin'"):
        _ = testing.begin  # type: ignore[attr-defined]


def test_the_driver_is_loaded_with_the_server_and_not_before() -> None:
    told = finished(
        "-c",
        "import sys, pgflow_starter.testing; print('psycopg' in sys.modules);"
        "from pgflow_starter.testing import EmbeddedPostgres, install;"
        "print(callable(install), EmbeddedPostgres.__name__, 'psycopg' in sys.modules)",
    )
    assert told.stdout == "False\nTrue EmbeddedPostgres True\n"
