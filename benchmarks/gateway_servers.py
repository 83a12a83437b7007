"""The servers of the gateway comparison: what each row runs, and how to start and watch it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from processes import cpu_seconds_of, processes_of_session, rss_kb_of
from programs import BENCHMARKS, WorkerError, build

_PYTHON = [sys.executable, "-m"]
_GRANIAN = [*_PYTHON, "granian", "--loop", "uvloop", "--workers", "1", "--log-level", "warning",
            "--http1-header-read-timeout", "60000"]  # fmt: skip
_UVICORN = [*_PYTHON, "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-proxy-headers",
            "--timeout-keep-alive", "300", "--interface", "asgi3"]  # fmt: skip
SERVERS = {
    "rsgi": [*_GRANIAN, "--interface", "rsgi"],
    "asgi": [*_GRANIAN, "--interface", "asgi"],
    "uvicorn": [*_UVICORN, "--log-level", "warning"],
}


# Programs that are gateways by themselves, with one worker, as their manuals recommend it for connections that are
# kept.
_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; keepalive_requests 100000000;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 0;
  upstream u {{ server {address}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  http-reuse always
  server s {address} pool-max-conn 1024
"""


@dataclass(frozen=True)
class Gateway:
    """One row: a server, and an application of gateway_apps.py, or a program that needs none."""

    server: str
    app: str = ""

    @property
    def in_python(self) -> bool:
        """Whether an event loop of Python takes its requests."""
        return bool(self.app)


GATEWAYS = {
    "RSGI, empty handler": Gateway("rsgi", "rsgi_empty"),
    "RSGI, ours": Gateway("rsgi", "rsgi_ours"),
    "RSGI, pyreqwest": Gateway("rsgi", "rsgi_pyreqwest"),
    "Velithon, ours": Gateway("rsgi", "velithon_ours"),
    "Velithon, GatewayRoute": Gateway("rsgi", "velithon_gateway"),
    "Granian ASGI, ours": Gateway("asgi", "asgi_ours"),
    "Granian ASGI, aiohttp": Gateway("asgi", "asgi_aiohttp"),
    "uvicorn, ours": Gateway("uvicorn", "asgi_ours"),
    "uvicorn, aiohttp": Gateway("uvicorn", "asgi_aiohttp"),
    "FastAPI on uvicorn, ours": Gateway("uvicorn", "fastapi_ours"),
    "uvicorn, asgiproxy": Gateway("uvicorn", "asgi_asgiproxy"),
    "FastAPI on uvicorn, fastapi-proxy-lib": Gateway("uvicorn", "fastapi_proxy_lib"),
    "FastAPI on uvicorn, fastapi-reverse-proxy": Gateway("uvicorn", "fastapi_reverse_proxy"),
    "nginx": Gateway("nginx"),
    "HAProxy": Gateway("haproxy"),
    "Go ReverseProxy": Gateway("go"),
}
_START_LIMIT = 30.0


def _native_command(server: str, port: int, upstream: str, folder: Path) -> list[str]:
    if server == "go":
        return [str(build("reverseproxy")), "-port", str(port), "-upstream", upstream]
    program = _program(server)
    if program is None:
        raise WorkerError(f"{server} is not installed")
    text = {"nginx": _NGINX, "haproxy": _HAPROXY}[server]
    configuration = folder / "conf"
    configuration.write_text(text.format(folder=folder, port=port, address=upstream.removeprefix("http://")))
    where = ["-p", str(folder), "-c"] if server == "nginx" else ["-db", "-f"]
    return [program, *where, str(configuration)]


def versions() -> dict[str, str]:
    """Of the servers and of what stands behind the peers; without what is not installed."""
    found: dict[str, str] = {}
    for name in ("granian", "uvicorn", "velithon", "aiohttp", "pyreqwest", "asgiproxy", "fastapi", "fastapi-proxy-lib",
                 "fastapi-reverse-proxy"):  # fmt: skip
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    for name in ("nginx", "haproxy"):
        program = _program(name)
        if program:
            told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
            number = re.search(r"\d+\.\d+\.\d+", told.stdout + told.stderr)
            found[name] = number[0] if number else "unknown"
    return found


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/local/bin")


class Server:
    """A server process with its workers. Use as a context manager.

    Args:
        delay_path: where the event loop listens for the times of loop_delay.py; not at all if empty.
        options: arguments of ours, see gateway_apps.py.
    """

    def __init__(self, gateway: Gateway, upstream: str, delay_path: str = "", options: dict[str, Any] | None = None
                 ) -> None:  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._log: TextIO | None = None
        if gateway.in_python:
            command = [*SERVERS[gateway.server], "--host", "127.0.0.1", "--port", str(self.port), "gateway_apps:app"]
        else:
            command = _native_command(gateway.server, self.port, upstream, Path(self._folder.name))
        log: Any = None if gateway.in_python else subprocess.DEVNULL
        if path := os.environ.get("SERVER_LOG"):
            self._log = log = Path(path).open("a")  # noqa: SIM115 - closed with the server
        # Such as --nofile=256: the server and its workers, nobody else.
        limit = os.environ.get("SERVER_LIMIT")
        self._process = subprocess.Popen(
            ["prlimit", limit, *command] if limit else command,
            cwd=BENCHMARKS,
            env={
                **os.environ, "UPSTREAM": upstream, "APP": gateway.app, "SERVER": gateway.server,
                "LOOP_DELAY": delay_path, "OPTIONS": json.dumps(options or {}),
            },
            start_new_session=True,
            stdout=log,
            stderr=log,
        )  # fmt: skip
        end = time.monotonic() + _START_LIMIT
        while not self._listens():
            if time.monotonic() > end or self._process.poll() is not None:
                self.close()
                raise WorkerError(f"the server of {gateway.app} did not start")
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    @property
    def pids(self) -> list[int]:
        """The processes of the server, workers included."""
        return processes_of_session(self._process.pid)

    def cpu_seconds(self) -> float:
        """User and system time of the server and its workers so far."""
        return sum(map(cpu_seconds_of, self.pids))

    def rss_kb(self) -> int:
        """Resident memory of the server and its workers now."""
        return sum(map(rss_kb_of, self.pids))

    @property
    def leader(self) -> int:
        """The process that was started; its workers have others."""
        return self._process.pid

    def ended(self, seconds: float) -> bool:
        """Wait until the server has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def close(self) -> None:
        """End all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
