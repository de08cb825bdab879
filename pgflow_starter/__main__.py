"""The program `pgflow-starter`, also as `python -m pgflow_starter`."""

from __future__ import annotations

import signal
import sys

from pgflow_starter import __version__
from pgflow_starter.errors import installing

_EXTRA = frozenset({"click", "rich"})


def main() -> None:
    """Run the command line; ends the process with its exit code, 2 where the extra `cli` is missing.

    Without it the version is told all the same.
    """
    # Until a command has handlers of its own: there is nothing to tidy up, and SIGINT may be inherited as ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from pgflow_starter.cli.commands import commands
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        if sys.argv[1:] == ["--version"]:
            print(f"pgflow-starter, version {__version__}")
            return
        print(f"pgflow-starter needs {missing}: {installing('cli')}", file=sys.stderr)
        sys.exit(2)
    commands.main(prog_name="pgflow-starter")


if __name__ == "__main__":
    main()
