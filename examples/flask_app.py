"""A Flask application under gunicorn: a blueprint enqueues reports, and each process runs them on threads of its own.

    export PGFLOW_DSN='host=localhost dbname=shop'
    cd examples && gunicorn -c deploy/gunicorn.conf.py flask_app:app                       # --preload works as well
    curl -d title=May -d seconds=2 localhost:8000/reports/                                 # {"run": "<id>"}
    curl localhost:8000/reports/<id>

SIGTERM ends it: requests first, then the tasks that run (see deploy/gunicorn.conf.py).
"""

import os

from flask import Blueprint, Flask, current_app, request

import pgflow_starter as pgflow

reports = Blueprint("reports", __name__, url_prefix="/reports")


@pgflow.job("report", timeout=60)
def report(message, ctx):
    ctx.cancelled.wait(message["seconds"])  # the work; it ends early when nobody takes the result any more
    return {"title": message["title"], "by": os.getpid(), "shop": current_app.config["SHOP"]}


@reports.post("/")
def order_report():
    message = {"title": request.form["title"], "seconds": request.form.get("seconds", 0, type=float)}
    return {"run": current_app.extensions["pgflow"].client.enqueue(report, message).id}, 202


@reports.get("/<uuid:run_id>")
def show_report(run_id):
    run = current_app.extensions["pgflow"].client.run(run_id)
    return {"status": run.status, "result": run.result, "error": run.error}


@reports.get("/healthz")
def health():  # never waits
    starter = current_app.extensions["pgflow"]
    return starter.status().to_dict(), 200 if starter.healthy() else 503


@reports.errorhandler(pgflow.PgflowError)
def refuse(error):
    return {"error": str(error)}, 404 if isinstance(error, pgflow.RunNotFoundError) else 503


def create_app():
    app = Flask(__name__)
    app.config["SHOP"] = os.environ.get("SHOP", "corner")
    app.register_blueprint(reports)
    app.extensions["pgflow"] = pgflow.start(
        os.environ.get("PGFLOW_DSN", ""),
        jobs=[report],
        signal_strategy="notify",
        shutdown_timeout=20,
        middleware=[lambda ctx: app.app_context()],  # handlers see current_app, as requests do
        lazy=True,  # gunicorn forks its workers: the first call starts it, in each process
    )
    return app


app = create_app()
starter = app.extensions["pgflow"]  # what gunicorn.conf.py starts and stops
