"""The public API as users type it: `right` and `wrong` are checked by mypy and by pyright, and never run."""
