"""Videos on demand with aiohttp.web. `README.md` beside this file tells how to start it."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from aiohttp import web
from studio import BusyError, Job, News, Studio

from wanasync import RequestValidationError, VideoRequest
from wanasync.webhooks import CallbackReceiver

PAGE = Path(__file__).with_name("page.html")
WISHES = ("prompt", "quality", "duration", "aspect_ratio")
HEARTBEAT = 15.0
"""Seconds; proxies take a silent connection for a dead one."""

STUDIO = web.AppKey("STUDIO", Studio)
routes = web.RouteTableDef()


def the_job(request: web.Request) -> Job:
    job = request.app[STUDIO].job(request.match_info["job_id"])
    if job is None:
        raise web.HTTPNotFound(text="no such job")
    return job


@routes.post("/jobs")
async def start(request: web.Request) -> web.Response:
    """Sending a request again with its `Idempotency-Key` (a UUID) answers the job that is there."""
    wish = await request.json()
    try:
        job_id = uuid.UUID(request.headers["Idempotency-Key"]) if "Idempotency-Key" in request.headers else uuid.uuid4()
        wanted = VideoRequest(**{name: wish[name] for name in WISHES if name in wish})
        job = await request.app[STUDIO].start(str(job_id), wanted)
    except (RequestValidationError, ValueError, TypeError) as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    except BusyError as error:
        raise web.HTTPServiceUnavailable(text=str(error), headers={"Retry-After": "60"}) from error
    return web.json_response(job.public(), status=202)


@routes.get("/jobs")
async def jobs(request: web.Request) -> web.Response:
    limit = int(request.query.get("limit", 100))
    return web.json_response([job.public() for job in request.app[STUDIO].jobs()[:limit]])


@routes.get("/jobs/{job_id}")
async def show(request: web.Request) -> web.Response:
    return web.json_response(the_job(request).public())


@routes.get("/jobs/{job_id}/events")
async def events(request: web.Request) -> web.StreamResponse:
    job = the_job(request)
    response = web.StreamResponse(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    async with aclosing(with_heartbeats(request.app[STUDIO].news(job, request.headers.get("Last-Event-ID")))) as stream:
        async for text in stream:
            await response.write(text.encode())
    return response


async def with_heartbeats(stream: AsyncIterator[News]) -> AsyncGenerator[str, None]:
    coming = asyncio.ensure_future(anext(stream, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=HEARTBEAT)
            if not done:
                yield ": still here\n\n"
                continue
            news = coming.result()
            if news is None:
                return
            yield f"id: {news.id}\ndata: {json.dumps(news.job)}\n\n"
            coming = asyncio.ensure_future(anext(stream, None))
    finally:
        coming.cancel()


@routes.get("/videos/{job_id}")
async def video(request: web.Request) -> web.FileResponse:
    job = the_job(request)
    if job.path is None:
        raise web.HTTPNotFound(text=f"the job is {job.state}")
    return web.FileResponse(job.path)


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    trouble = request.app[STUDIO].trouble
    return web.json_response({"status": trouble or "ok"}, status=503 if trouble else 200)


@routes.get("/")
async def page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


async def hang_up(app: web.Application) -> None:
    app[STUDIO].hang_up()


def main(_: list[str] | None = None) -> web.Application:
    receiver = CallbackReceiver(
        public_url=os.environ["PUBLIC_URL"] + "/hooks/wan",
        secret=os.environ["CALLBACK_SECRET"],
    )

    async def studio(app: web.Application) -> AsyncIterator[None]:
        async with Studio(Path(os.environ.get("VIDEOS", "videos")), callbacks=receiver) as app[STUDIO]:
            yield

    app = web.Application()
    app.cleanup_ctx.append(studio)
    app.on_shutdown.append(hang_up)
    app.add_routes(routes)
    app.router.add_post("/hooks/wan/{token}", receiver.aiohttp)
    return app
