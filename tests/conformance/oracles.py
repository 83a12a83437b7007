"""Other gateways before an upstream, for a second opinion: nginx, HAProxy and Go's ReverseProxy, where they are."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ORACLES = ("nginx", "haproxy", "go")

_HERE = Path(__file__).parent
_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port}; merge_slashes off;
    location /api {{ proxy_pass {upstream}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
_HAPROXY = """
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend f
  bind 127.0.0.1:{port}
  http-request deny deny_status 404 unless {{ path -m beg /api }}
  default_backend b
backend b
  server s {address}
"""


def missing(name: str) -> str:
    """Why an oracle cannot be asked; empty if it can."""
    return "" if _program(name) else f"{name} is not installed"


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/local/bin")


@contextlib.contextmanager
def running(name: str, upstream: str, folder: Path) -> Iterator[int]:
    """Start an oracle before an upstream; yields its port."""
    port = _free_port()
    command = [str(_program(name))]
    if name == "go":
        subprocess.run([*command, "build", "-o", str(folder / "oracle"), "./oracle"], cwd=_HERE, check=True)
        command = [str(folder / "oracle"), upstream]
    else:
        text = _NGINX if name == "nginx" else _HAPROXY
        address = upstream.removeprefix("http://")
        (folder / "conf").write_text(text.format(folder=folder, port=port, upstream=upstream, address=address))
        command += (
            ["-p", str(folder), "-c", str(folder / "conf")] if name == "nginx" else ["-db", "-f", str(folder / "conf")]
        )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    try:
        if name == "go":
            assert process.stdout is not None
            port = int(process.stdout.readline())
        _wait(process, port, folder / "log")
        yield port
    finally:
        process.kill()
        process.communicate()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"nothing listens: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
