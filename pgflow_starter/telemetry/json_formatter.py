"""`JsonFormatter`: log records as one line of JSON each, with the trace and span that were current."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace

_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record: `timestamp` (UTC), `level`, `logger`, `message`, and where there are any
    `exception`, `stack`, `trace_id`, `span_id` and the record's own fields, such as `pgflow_module`.

    The span is the one that is current where the record is formatted: on the thread that logs, unless a QueueHandler
    lies between. Never raises: what is no JSON is told by its `repr`, and without that by its class. Thread-safe.

    `logging.config.dictConfig` finds it as `{"formatters": {"json": {"()": "pgflow_starter.JsonFormatter"}}}`; it needs
    `"disable_existing_loggers": False` there, for this package's loggers exist by then.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {k: v for k, v in record.__dict__.items() if k not in _USUAL and v is not None}
        line |= {
            "timestamp": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **_span(),
        }
        if record.exc_info:
            line["exception"] = self._traceback(record)
        if record.stack_info:
            line["stack"] = _stack(record)
        try:
            return json.dumps(line, default=_shown, allow_nan=False)
        except Exception:  # a NaN, a loop, an integer of more digits than Python writes, a key that is no text
            return json.dumps({_text(k): _text(v) for k, v in line.items()})

    def _traceback(self, record: logging.LogRecord) -> str:
        try:
            if record.exc_text is None and record.exc_info:
                record.exc_text = self.formatException(record.exc_info)
            return record.exc_text or ""
        except Exception as error:
            return f"(a traceback that cannot be had: {type(error).__name__})"


def _moment(record: logging.LogRecord) -> str:
    try:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    except Exception:
        return _shown(record.created)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return f"{_shown(record.msg)} (its arguments do not fit: {type(error).__name__})"


def _stack(record: logging.LogRecord) -> str:
    try:
        return str(record.stack_info)
    except Exception:
        return _shown(record.stack_info)


def _span() -> dict[str, str]:
    try:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}
    except Exception:
        return {}


def _text(value: object) -> str:
    return value if type(value) is str else _shown(value)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return type(value).__name__
