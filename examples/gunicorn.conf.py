"""gunicorn's settings for gunicorn_app, which gunicorn finds by itself in the current folder."""

bind = "127.0.0.1:8000"
worker_class = "gthread"
workers = 2
threads = 4
# A worker that has not ended by then is killed: more than the starter's shutdown_timeout, which comes after requests.
graceful_timeout = 30


def post_worker_init(worker):
    """Have the worker run tasks from now on: without this call it would begin with the first request."""
    from gunicorn_app import starter

    starter.ready()
