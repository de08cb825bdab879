"""The public API as users type it: checked by mypy, never run."""
