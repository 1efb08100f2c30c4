"""A real S3 server on a free port: moto's, with trouble of ours before it."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import boto3  # type: ignore[import-untyped]
import pytest
from attrs import define, field
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

__all__ = ["ENVIRONMENT", "S3", "s3_server"]

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}

Environ = dict[str, Any]
Answer = Callable[..., Iterable[bytes]]
Fault = Callable[[Environ, Callable[..., Any], Answer], Iterable[bytes]]

_buckets = itertools.count(1)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None: ...  # noqa: A002


@define(eq=False)
class S3:
    """`requests` are those that came, as (method, path); `troubles` hold a fault for each of the next uploads."""

    endpoint: str = ""
    bucket: str = ""
    requests: list[tuple[str, str]] = field(factory=list)
    checksums: list[str] = field(factory=list)
    troubles: list[Fault] = field(factory=list)
    app: Answer | None = None
    part_came: threading.Event = field(factory=threading.Event)

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        assert self.app is not None
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        self.requests.append((method, f"{environ['PATH_INFO']}{'?' if query else ''}{query}"))
        if method in ("PUT", "POST") and "HTTP_X_AMZ_CHECKSUM_SHA256" in environ:
            self.checksums.append(environ["HTTP_X_AMZ_CHECKSUM_SHA256"])
        if "partNumber" in query:
            self.part_came.set()
        if method == "PUT" and self.troubles:
            return self.troubles.pop(0)(environ, start, self.app)
        return self.app(environ, start)

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        )

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/films"

    def objects(self) -> dict[str, int]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {held["Key"].removeprefix("films/"): held["Size"] for held in found}

    def unfinished(self) -> int:
        return len(self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))

    def content(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=f"films/{name}")["Body"].read()
        return content

    def place(self, name: str, content: bytes) -> None:
        """Somebody else's object."""
        self.client.put_object(Bucket=self.bucket, Key=f"films/{name}", Body=content)


@contextmanager
def s3_server() -> Iterator[S3]:
    logging.getLogger("botocore").setLevel(logging.WARNING)
    s3 = S3(app=DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, s3, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    s3.endpoint = f"http://127.0.0.1:{server.port}"
    try:
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def s3_machine() -> Iterator[S3]:
    with s3_server() as s3:
        yield s3


@pytest.fixture
def s3(s3_machine: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """With a new bucket, and the environment that leads to it."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT": s3_machine.endpoint}.items():
        monkeypatch.setenv(name, value)
    s3_machine.bucket = f"bucket-{next(_buckets)}"
    s3_machine.client.create_bucket(Bucket=s3_machine.bucket)
    for kept in (s3_machine.requests, s3_machine.checksums, s3_machine.troubles):
        kept.clear()
    s3_machine.part_came.clear()
    return s3_machine


def _hang_up(environ: Environ) -> Iterable[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def slow_down(environ: Environ, start: Callable[..., Any], app: Answer) -> Iterable[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("503 Slow Down", [("Content-Type", "application/xml")])
    return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]


def cut_in_upload(environ: Environ, start: Callable[..., Any], app: Answer) -> Iterable[bytes]:
    environ["wsgi.input"].read(1000)
    return _hang_up(environ)


def lose_reply(environ: Environ, start: Callable[..., Any], app: Answer) -> Iterable[bytes]:
    """The object is there, and the client is not told."""
    list(app(environ, mock.Mock()))
    return _hang_up(environ)


def refuse(environ: Environ, start: Callable[..., Any], app: Answer) -> Iterable[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("403 Forbidden", [("Content-Type", "application/xml")])
    return [b"<Error><Code>AccessDenied</Code><Message>\x1b[31mno\x1b[0m</Message></Error>"]
