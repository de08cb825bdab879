"""`ModuleLog`: log lines about one module: each names it, for people in its text and for machines in its fields."""

from __future__ import annotations

import logging
from typing import Any

_CALLER = 3
"""Frames from the call of `logging` up to the caller of a method here."""


class ModuleLog:
    """Writes to `logger` as `logging` does, with the module's name and, once it is known, its slug. Thread-safe.

    The fields of each record are `pgflow_module`, `pgflow_slug` and what else is given as `fields`.
    """

    __slots__ = ("_logger", "module", "slug")

    def __init__(self, logger: logging.Logger, module: str, slug: str | None) -> None:
        self._logger = logger
        self.module = module
        self.slug = slug

    def debug(self, message: str, *args: object, **fields: object) -> None:
        self._log(logging.DEBUG, message, args, None, fields)

    def info(self, message: str, *args: object, **fields: object) -> None:
        self._log(logging.INFO, message, args, None, fields)

    def warning(self, message: str, *args: object, exc_info: BaseException | None = None, **fields: object) -> None:
        self._log(logging.WARNING, message, args, exc_info, fields)

    def error(self, message: str, *args: object, exc_info: BaseException | None = None, **fields: object) -> None:
        self._log(logging.ERROR, message, args, exc_info, fields)

    def _log(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        exc_info: BaseException | None,
        fields: dict[str, Any],
    ) -> None:
        if self._logger.isEnabledFor(level):
            named = self.module if self.slug in (None, self.module) else f"{self.module} ({self.slug})"
            extra = {"pgflow_module": self.module, "pgflow_slug": self.slug}
            extra.update((f"pgflow_{name}", value) for name, value in fields.items())
            self._logger.log(level, f"%s: {message}", named, *args, exc_info=exc_info, extra=extra, stacklevel=_CALLER)
