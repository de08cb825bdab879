"""The program `pgflow-starter`, also as `python -m pgflow_starter`."""

from __future__ import annotations

import sys

_EXTRA = frozenset({"click", "rich"})


def main() -> None:
    """Run the command line; ends the process with its exit code, 2 where the extra `cli` is missing."""
    try:
        from pgflow_starter.cli.commands import commands
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(f"pgflow-starter needs {missing}: pip install 'pgflow-starter[cli]'", file=sys.stderr)
        sys.exit(2)
    commands.main(prog_name="pgflow-starter")


if __name__ == "__main__":
    main()
