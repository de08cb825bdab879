"""Texts of others, made fit for a log line or a state."""

from __future__ import annotations

# A terminal obeys them, and texts come from databases and from others' errors. Those that are white space are folded.
_CONTROLS = {sign: None for sign in (*range(0x20), *range(0x7F, 0xA0)) if not chr(sign).isspace()}


def one_line(text: str, limit: int = 500) -> str:
    """The text without control characters and its white space folded, cut at `limit`: fit for a log line or a state."""
    folded = " ".join(text.translate(_CONTROLS).split())
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"


def text_of(error: BaseException) -> str:
    """The error's text; it may be somebody's own class, whose `__str__` raises in turn."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be had)"
