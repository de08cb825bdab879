"""A FastAPI application: it enqueues reports, waits for them without a thread for each, and runs them in this process.

    export PGFLOW_DSN='host=localhost dbname=shop'
    cd examples && uvicorn fastapi_app:app
    curl -X POST 'localhost:8000/reports?title=May&seconds=2'             # {"run": "<id>"}
    curl 'localhost:8000/reports/<id>?patience=10'                        # {"status": "completed", "result": ...}

SIGTERM ends it: requests first, then the tasks that run.
"""

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

import pgflow_starter as pgflow

Seconds = Annotated[float, Query(ge=0, le=60)]


@pgflow.job("report", timeout=60)
def report(message, ctx):
    ctx.cancelled.wait(message["seconds"])  # the work; it ends early when nobody takes the result any more
    return {"title": message["title"]}


@asynccontextmanager
async def lifespan(app):
    app.state.starter = pgflow.start(os.environ.get("PGFLOW_DSN", ""), jobs=[report], signal_strategy="notify")
    yield
    await asyncio.to_thread(app.state.starter.stop)  # it waits for tasks: the loop goes on meanwhile


app = FastAPI(lifespan=lifespan)


@app.post("/reports", status_code=202)
async def order_report(request: Request, title: str, seconds: Seconds = 0):
    run = await request.app.state.starter.client.aio.enqueue(report, {"title": title, "seconds": seconds})
    return {"run": run.id}


@app.get("/reports/{run_id}")
async def wait_for_report(request: Request, run_id: UUID, patience: Seconds = 0):
    run = await request.app.state.starter.client.aio.run(run_id)
    with suppress(TimeoutError):
        run = await run.wait(patience)
    return {"status": run.status, "result": run.result, "error": run.error}


@app.get("/healthz")
def health(request: Request):  # never waits
    starter = request.app.state.starter
    return JSONResponse(starter.status().to_dict(), 200 if starter.healthy() else 503)


@app.exception_handler(pgflow.PgflowError)
async def refuse(request: Request, error: pgflow.PgflowError):
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, pgflow.RunNotFoundError) else 503)
