"""Videos on demand with FastAPI. `README.md` beside this file tells how to start it."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from starlette.routing import Route
from studio import BusyError, Job, Studio

from wanasync import RequestValidationError, VideoRequest
from wanasync.webhooks import CallbackReceiver

PAGE = Path(__file__).with_name("page.html")

receiver = CallbackReceiver(
    public_url=os.environ["PUBLIC_URL"] + "/hooks/wan",
    secret=os.environ["CALLBACK_SECRET"],
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Studio(Path(os.environ.get("VIDEOS", "videos")), callbacks=receiver) as studio:
        app.state.studio = studio
        yield


app = FastAPI(
    title="Videos on demand",
    lifespan=lifespan,
    routes=[Route("/hooks/wan/{token}", receiver, methods=["POST"])],
)


def the_studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


Here = Annotated[Studio, Depends(the_studio)]


def the_job(job_id: str, studio: Here) -> Job:
    job = studio.job(job_id)
    if job is None:
        raise HTTPException(404, "no such job")
    return job


This = Annotated[Job, Depends(the_job)]


class Wish(BaseModel):
    prompt: str
    quality: str | None = None
    duration: int | None = None
    aspect_ratio: str | None = None


@app.post("/jobs", status_code=202)
async def start(
    wish: Wish, studio: Here, idempotency_key: Annotated[uuid.UUID | None, Header()] = None
) -> dict[str, Any]:
    """Sending a request again with its `Idempotency-Key` (a UUID) answers the job that is there."""
    try:
        request = VideoRequest(**wish.model_dump(exclude_none=True))
        job = await studio.start(str(idempotency_key or uuid.uuid4()), request)
    except RequestValidationError as error:
        raise HTTPException(422, str(error)) from error
    except BusyError as error:
        raise HTTPException(503, str(error), {"Retry-After": "60"}) from error
    return job.public()


@app.get("/jobs")
async def jobs(studio: Here, limit: int = 100) -> list[dict[str, Any]]:
    return [job.public() for job in studio.jobs()[:limit]]


@app.get("/jobs/{job_id}")
async def show(job: This) -> dict[str, Any]:
    return job.public()


@app.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
async def events(
    job: This, studio: Here, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncIterator[ServerSentEvent]:
    async for news in studio.news(job, last_event_id):
        yield ServerSentEvent(data=news.job, id=news.id)


@app.get("/videos/{job_id}")
async def video(job: This) -> FileResponse:
    if job.path is None:
        raise HTTPException(404, f"the job is {job.state}")
    return FileResponse(job.path, media_type="video/mp4", content_disposition_type="inline")


@app.get("/health")
async def health(studio: Here) -> dict[str, str]:
    if studio.trouble:
        raise HTTPException(503, studio.trouble)
    return {"status": "ok"}


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE)
