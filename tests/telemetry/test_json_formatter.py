"""Log records as JSON: one line each, whatever is in them."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from pgflow_starter import JsonFormatter
from tests.support.pages import DOCS, blocks
from tests.support.programs import finished


def _record(message: Any = "hello", *args: object, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("pgflow_starter.workers", logging.WARNING, "x.py", 1, message, args, None)
    record.__dict__.update(fields)
    return record


def _told(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line, parse_constant=pytest.fail)
    assert isinstance(found, dict)
    return found


def test_a_record_is_one_line_of_json_with_its_fields() -> None:
    told = _told(_record("%d\ntasks", 2, pgflow_module="shop.flows:order", pgflow_slug="order", pgflow_none=None))
    assert told.pop("timestamp").endswith("+00:00")
    assert told == {
        "level": "WARNING",
        "logger": "pgflow_starter.workers",
        "message": "2\ntasks",
        "pgflow_module": "shop.flows:order",
        "pgflow_slug": "order",
    }


def test_it_adds_the_trace_and_span_that_are_current() -> None:
    assert "trace_id" not in _told(_record())
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        told = _told(_record())
    context = span.get_span_context()
    assert told["trace_id"] == f"{context.trace_id:032x}"
    assert told["span_id"] == f"{context.span_id:016x}"


def test_it_adds_what_was_raised() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "bad", (), sys.exc_info(), sinfo="Stack:\n  here")
    told = _told(record)
    assert told["exception"].endswith("ValueError: two\nlines")
    assert told["stack"] == "Stack:\n  here"


class Vicious:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class ViciousError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "record",
    [
        _record("%d", "no number"),
        _record("%s", Vicious()),
        _record(Vicious()),
        _record(b"\xff"),
        _record("\ud800"),
        _record(field=Vicious()),
        _record(field=float("nan")),
        _record(field=_loop()),
        _record(field=_deep()),
        _record(field=10**5000),
        _record(field={("a", "pair"): 1}),
        _record(field={"a": {object()}}),
        _record(level="mine", timestamp=7),
        _record(created="yesterday"),
        _record(created=1e300),
        _record(exc_info=(ViciousError, ViciousError(), None)),
        _record(exc_info="what"),
        _record(exc_info=True),
        _record(stack_info=object()),
        _record(stack_info=Vicious()),
    ],
)
def test_it_never_raises(record: logging.LogRecord) -> None:
    told = _told(record)
    assert {"timestamp", "level", "logger", "message"} <= set(told)
    assert told["level"] == "WARNING"


def test_dict_config_finds_it_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": "pgflow_starter.JsonFormatter"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
            "loggers": {"pgflow_test_json": {"handlers": ["out"], "propagate": False}},
        }
    )
    logger = logging.getLogger("pgflow_test_json")
    logger.warning("hello", extra={"pgflow_module": "shop"})
    logger.handlers.clear()
    assert json.loads(capsys.readouterr().out)["pgflow_module"] == "shop"


def test_the_configuration_of_the_guide_leaves_our_loggers_on(tmp_path: Path) -> None:
    (example,) = [block for block in blocks(DOCS / "how-to/logs.md") if block.file == "log_config.py"]
    program = f"{example.text}\nlogging.getLogger('pgflow_starter.workers').warning('hello')\n"
    done = finished("-c", program, cwd=tmp_path)
    assert json.loads(done.stderr)["message"] == "hello"
