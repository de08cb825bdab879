"""What a failure's attributes are."""

from __future__ import annotations

import re

from pgflow_starter.telemetry import names

_SQLSTATE = re.compile(r"[0-9A-Z]{5}")


def failure(kind: str) -> dict[str, str]:
    """The error's type, an SQLSTATE or a class, and the database's answer where it is one."""
    attributes = {names.ERROR_TYPE: kind}
    return {**attributes, names.DB_STATUS: kind} if _SQLSTATE.fullmatch(kind) else attributes
