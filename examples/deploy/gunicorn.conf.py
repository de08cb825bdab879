"""gunicorn's settings for gunicorn_app and flask_app: threads serve requests, a starter in each process runs tasks.

cd examples && PGFLOW_DSN='host=localhost dbname=shop' gunicorn -c deploy/gunicorn.conf.py gunicorn_app:app
"""

from importlib import import_module

bind = "127.0.0.1:8000"
worker_class = "gthread"
workers = 2
threads = 4
# After SIGTERM a process that has not ended by then is killed. First its requests end, then the starter's tasks: give
# both their time, so more than the starter's shutdown_timeout (20 there) and the longest request together; the page's
# stream, where that is mounted, is a request of 10 seconds.
graceful_timeout = 35


def starter_of(worker):
    """The starter beside the application that was named on the command line."""
    return import_module(worker.app.app_uri.partition(":")[0]).starter


def post_worker_init(worker):
    """Have the process run tasks from now on: without this call it would begin with the first request."""
    starter_of(worker).ready()


def worker_exit(server, worker):
    """Requests are done: let the tasks that run end, and give back what takes longer."""
    starter_of(worker).stop()
