"""Programs that tests start and end: servers that somebody else wrote."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

__all__ = ["find_program", "free_port", "nginx", "prism", "running"]

ROOT = Path(__file__).parents[2]
PLACES = [str(ROOT / ".ci" / "node" / "node_modules" / ".bin"), "/usr/local/sbin", "/usr/sbin"]
START_SECONDS = 90.0


def find_program(name: str, package: str) -> str:
    """Its path; the test is skipped where it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
    if found is None:
        pytest.skip(f"{name} is not installed ({package})")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: Sequence[str], port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program in `folder`, once it listens on `port`, until the block ends. What it says is in `output`."""
    output = folder / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait_for(port, process, output)
        yield process
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait_for(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > give_up:
            pytest.fail(f"{process.args!r} did not start:\n{output.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def prism(folder: Path, *arguments: str) -> Iterator[str]:
    """Prism with the provider's document, as ``mock`` or ``proxy UPSTREAM``; its address."""
    program = find_program("prism", "npm: @stoplight/prism-cli")
    mode, *upstream = arguments
    document = ROOT / "tests" / "provider" / "openapi.yaml"
    port = free_port()
    with running([program, mode, "--port", str(port), str(document), *upstream], port, folder):
        yield f"http://127.0.0.1:{port}"


_NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr error;
events {{ worker_connections 256; }}
http {{
    log_format asked '$status $request_method $uri range="$http_range" if_range="$http_if_range" sent=$body_bytes_sent';
    access_log access.log asked;
    client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
    default_type video/mp4;
    {more}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, port: int, more: str) -> Iterator[None]:
    """nginx with `more` in its block ``http``; what it was asked is told by `access.log` in the folder."""
    program = find_program("nginx", "Debian: nginx-light")
    (folder / "nginx.conf").write_text(_NGINX.format(more=more))
    with running([program, "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"], port, folder):
        yield
