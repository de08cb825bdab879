"""A web application under gunicorn: each of its processes enqueues reports, and runs them on threads of its own.

    export PGFLOW_DSN='host=localhost dbname=shop'
    cd examples && gunicorn -c deploy/gunicorn.conf.py gunicorn_app:app                    # --preload works as well
    curl -d '{"title": "May", "seconds": 2}' localhost:8000/reports                        # {"run": "<id>"}
    curl localhost:8000/runs/<id>

SIGTERM ends it: requests first, then the tasks that run (see deploy/gunicorn.conf.py).
"""

import json
import os

import pgflow_starter as pgflow


@pgflow.job("report", timeout=60)
def report(message, ctx):
    ctx.cancelled.wait(message.get("seconds", 0))  # the work; it ends early when nobody takes the result any more
    return {"title": message["title"], "by": os.getpid()}


# Lazy: gunicorn forks its workers, and threads do not survive that. The first call starts it, in each process.
starter = pgflow.start(
    os.environ.get("PGFLOW_DSN", ""), jobs=[report], signal_strategy="notify", shutdown_timeout=20, lazy=True
)


def app(environ, start_response):
    try:
        status, answer = respond(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["wsgi.input"])
    except ValueError as error:
        status, answer = "400 Bad Request", {"error": str(error)}
    except pgflow.RunNotFoundError as error:
        status, answer = "404 Not Found", {"error": str(error)}
    except pgflow.PgflowError as error:
        status, answer = "503 Service Unavailable", {"error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def respond(method, path, body):
    if method == "POST" and path == "/reports":
        return "202 Accepted", {"run": str(starter.client.enqueue(report, json.load(body)).id)}
    if path.startswith("/runs/"):
        run = starter.client.run(path.removeprefix("/runs/"))
        return "200 OK", {"status": run.status, "result": run.result, "error": run.error}
    if path == "/status":
        return "200 OK" if starter.healthy() else "503 Service Unavailable", starter.status().to_dict()
    return "404 Not Found", {"error": f"there is no {path}"}
