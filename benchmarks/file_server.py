"""A host of videos for benchmarks: nginx with a configuration of its own, on a free port of the loopback interface."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

__all__ = ["FileServer", "file_server", "nginx"]

MEGABYTE = 1_000_000

_CONFIGURATION = """
daemon off; master_process off; pid nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; default_type video/mp4;
    client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
    ssl_certificate server.pem; ssl_certificate_key server.key; ssl_protocols TLSv1.3;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        location / {{ alias {folder}/; }}
        location ~ \\.mp4$ {{ alias {folder}/video; }}
    }}
}}
"""


@frozen
class FileServer:
    """Where one video is handed out, under any name that ends with `.mp4`. `authority` is the file to trust."""

    plain: str
    tls: str
    authority: Path
    process: int

    def links(self, count: int, *, tls: bool = False) -> list[str]:
        return [f"{self.tls if tls else self.plain}/{number}.mp4" for number in range(count)]


def nginx() -> str | None:
    """The program, if it is installed."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


@contextlib.contextmanager
def file_server(folder: Path, size: int) -> Iterator[FileServer]:
    """Serve a video of `size` bytes; `folder` is the server's own. Needs nginx and openssl."""
    program = nginx()
    if program is None:
        raise FileNotFoundError("nginx is not installed")
    (folder / "video").write_bytes(_film(size))
    _certify(folder)
    plain, tls = _free_ports()
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(plain=plain, tls=tls, folder=folder))
    folder.chmod(0o755)
    process = subprocess.Popen([program, "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"])
    try:
        _wait_for(plain)
        yield FileServer(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}", folder / "server.pem", process.pid)
    finally:
        process.terminate()
        process.wait()


def _certify(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")]
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True
    )


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise TimeoutError("nginx did not start")


def _film(size: int) -> bytes:
    """The outer structure of an MP4, around noise."""
    boxes = [(b"ftyp", b"isom\0\0\0\0isom"), (b"moov", bytes(1000))]
    head = b"".join(struct.pack(">I4s", 8 + len(body), kind) + body for kind, body in boxes)
    return head + struct.pack(">I4s", size - len(head), b"mdat") + os.urandom(size - len(head) - 8)
