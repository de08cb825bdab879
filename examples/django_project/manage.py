"""A Django project that works on its orders with pgflow: see docs/how-to/django.md.

    export PGHOST=localhost PGDATABASE=shop PGUSER=shop             # and PGPASSWORD, or ~/.pgpass
    cd examples/django_project
    python manage.py migrate && python manage.py pgflow db install
    python manage.py pgflow run --notify                            # the worker
    gunicorn project.wsgi                                           # the site, in another terminal
    curl -d customer=ada localhost:8000/orders/                     # {"order": "/orders/1/"}

SIGTERM ends either of them in order.
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    execute_from_command_line(sys.argv)
