"""The example project as its users start it: a server, a worker, and its own tests."""

from __future__ import annotations

import re
import signal
import urllib.parse
import urllib.request

from psycopg.conninfo import conninfo_to_dict

from tests.support.commands import call
from tests.support.programs import ROOT, finished, read_until, running
from tests.support.waiting import eventually

FOLDER = ROOT / "examples" / "django_project"
WARNINGS = ("-W", "error")
NAMES = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}


def environment(conninfo: str, **more: str) -> dict[str, str]:
    """With libpq's variables for that database."""
    given = conninfo_to_dict(conninfo)
    return {**{name: str(given[key]) for name, key in NAMES.items()}, "PYTHONUNBUFFERED": "1", **more}


def page(url: str, data: dict[str, str] | None = None) -> str:
    """What the site says there."""
    body = None if data is None else urllib.parse.urlencode(data).encode()
    with urllib.request.urlopen(url, body, timeout=60) as answer:
        return str(answer.read(), "utf-8")


def test_an_order_is_placed_worked_on_and_shown_and_both_processes_end_in_order(database: str) -> None:
    env = environment(database)
    assert finished(*WARNINGS, "manage.py", "migrate", env=env, cwd=FOLDER).returncode == 0
    assert "flows can run here" in finished("manage.py", "pgflow", "db", "check", env=env, cwd=FOLDER).stdout
    serve = ("-m", "gunicorn", "project.wsgi", "--bind", "127.0.0.1:0", "--log-level", "info")
    work = ("manage.py", "pgflow", "run", "--http", "127.0.0.1:0")
    with running(*WARNINGS, *serve, env=env, cwd=FOLDER) as site:
        at = re.search(r"http://127\.0\.0\.1:\d+", read_until(site.stderr, "Listening at"))
        assert at is not None
        order = page(f"{at[0]}/orders/", {"customer": "<ada>"}).partition('"/')[2].partition('"')[0]
        assert "Order 1 of &lt;ada&gt;</h1><p>placed; its run is started" in page(f"{at[0]}/{order}")
        with running(*WARNINGS, *work, env=env, cwd=FOLDER) as worker:
            said = read_until(worker.stderr, "ready: 2 of 2 modules succeeded")
            probes = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert probes is not None
            told = call("status", probes[0]).stdout
            assert re.search(r"fulfil_order +running +\d of 5", told)  # as the settings have it
            eventually(lambda: "shipped; its run is completed" in page(f"{at[0]}/{order}"))
            worker.send_signal(signal.SIGTERM)
            _, errors = worker.communicate()
        assert (worker.returncode, "Traceback" in errors) == (0, False)
        site.send_signal(signal.SIGTERM)
        _, errors = site.communicate()
    assert (site.returncode, "Traceback" in errors) == (0, False)


def test_its_own_tests_pass_on_a_copy_of_a_template_and_leave_nothing(database: str, template: str) -> None:
    env = environment(database, SHOP_TEMPLATE=template)
    done = finished(*WARNINGS, "manage.py", "test", "--noinput", env=env, cwd=FOLDER)
    assert (done.returncode, "\nOK\n" in done.stderr) == (0, True), done.stderr
