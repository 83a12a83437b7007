"""Runs the gateway of gateway.py before two upstreams and sends real requests through it.

    python demo.py           start everything, send the requests, print a table, stop everything
    python demo.py --serve   start everything and keep it up, to try it with curl

Every answer is checked; the exit status is 1 if one of them is wrong. Needs the extra `demo` of velithon-proxy.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
START_LIMIT = 30.0  # seconds
REQUEST_LIMIT = 10.0
FIVE_MB = 5_000_000


class DemoError(Exception):
    """Something does not run as it should; the text is shown."""


class Server:
    """A server process in a process group of its own, with its output in a file."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], port: int, log: Path) -> None:
        self.name, self.port, self._log = name, port, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=HERE,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def wait_until_ready(self, path: str) -> None:
        """Wait for a complete answer: a listening socket says nothing about the workers behind it."""
        end = time.monotonic() + START_LIMIT
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                send(self.port, "GET", path)
                return
            if time.monotonic() > end:
                raise DemoError(f"{self.name} did not answer within {START_LIMIT:.0f} s\n{self.output()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(0.05)
                raise DemoError(f"{self.name} ended with exit status {status}\n{self.output()}")

    def wait(self) -> int:
        return self._process.wait()

    def stop(self) -> None:
        """End the process and all that it started."""
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                break
        # Workers whose parent is gone already.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def output(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


@dataclass
class Reply:
    """One answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    milliseconds: float

    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Case:
    """A request, and what is wrong with its answer: an empty list if nothing is."""

    title: str
    method: str
    path: str
    check: Callable[[Reply], Iterator[str]]
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def send(port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
    connection = http.client.HTTPConnection(HOST, port, timeout=REQUEST_LIMIT)
    with contextlib.closing(connection):
        start = time.perf_counter()
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        return Reply(response.status, response.msg, content, (time.perf_counter() - start) * 1e3)


def expect(reply: Reply, status: int, service: str | None) -> Iterator[str]:
    if reply.status != status:
        yield f"status {reply.status}, not {status}"
    if reply.headers["x-service"] != service:
        yield f"answered by {reply.headers['x-service'] or 'the application'}, not {service or 'the application'}"


def check_query(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "users")
    seen = reply.json()
    if (seen["path"], seen["query"]) != ("/echo", "tag=a&tag=b"):
        yield f"the upstream saw {seen['path']}?{seen['query']}"


def check_json(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "orders")
    if reply.json()["json"] != {"item": "tea", "count": 3}:
        yield f"the upstream saw the body {reply.json()['json']}"


def check_upload(upload: bytes) -> Callable[[Reply], Iterator[str]]:
    def check(reply: Reply) -> Iterator[str]:
        yield from expect(reply, 200, "users")
        if reply.json() != {"bytes": len(upload), "sha256": hashlib.sha256(upload).hexdigest()}:
            yield f"the upstream received {reply.json()}"

    return check


def check_download(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "orders")
    if len(reply.body) != FIVE_MB or reply.headers["x-sha256"] != hashlib.sha256(reply.body).hexdigest():
        yield f"{len(reply.body)} bytes with another SHA-256 than the upstream sent"


def check_cookies(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, "users")
    if reply.headers.get_all("set-cookie") != ["session=abc; Path=/; HttpOnly", "theme=dark; Path=/"]:
        yield f"Set-Cookie lines: {reply.headers.get_all('set-cookie')}"


def check_health(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 200, None)
    if reply.json()["gateway"] != "velithon-proxy":
        yield "not the application's answer"


def check_unmatched(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 404, None)
    if reply.body != b"Not Found":
        yield f"not the application's own 404 but {reply.body[:80]!r}"


def check_down(reply: Reply) -> Iterator[str]:
    yield from expect(reply, 502, None)
    if reply.json() != {"error": "Bad Gateway", "status": 502}:
        yield f"body {reply.body[:80]!r}"


def cases() -> list[Case]:
    upload = os.urandom(FIVE_MB)
    order = json.dumps({"item": "tea", "count": 3}).encode()
    json_type = {"Content-Type": "application/json"}
    return [
        Case("query", "GET", "/api/users/echo?tag=a&tag=b", check_query),
        Case("JSON body", "POST", "/api/orders/echo", check_json, order, json_type),
        Case("5 MB up", "POST", "/api/users/blob", check_upload(upload), upload),
        Case("5 MB down", "GET", f"/api/orders/blob?bytes={FIVE_MB}", check_download),
        Case("two Set-Cookie lines", "GET", "/api/users/login", check_cookies),
        Case("route of the application", "GET", "/health", check_health),
        Case("unmatched path", "GET", "/api/usersx", check_unmatched),
    ]


def run(case: Case, port: int, table: Table) -> bool:
    """Send one request, add its line to the table, and say whether the answer is right."""
    try:
        reply = send(port, case.method, case.path, case.body, case.headers)
        problems = list(case.check(reply))
        upstream = reply.headers["x-service"] or "-"
        shown = str(reply.status), upstream, f"{len(reply.body):,}", f"{reply.milliseconds:.1f}"
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        problems = [f"{type(error).__name__}: {error}"]
        shown = "-", "-", "-", "-"
    sent = f"{len(case.body):,}" if case.body else "0"
    mark = "[green]✓[/]" if not problems else "[red]✗ " + "; ".join(problems).replace("[", r"\[") + "[/]"
    table.add_row(f"{case.method} {case.path}", case.title, shown[0], shown[1], sent, *shown[2:], mark)
    return not problems


def free_port(wanted: int = 0) -> int:
    """Return the wanted port if nobody listens there, otherwise one that is free now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(port: int, workers: int) -> Iterator[dict[str, Server]]:
    """Start both upstreams and the gateway, and stop them in any case."""
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory(prefix="velithon-proxy-demo-") as folder:
        try:
            for name in ("users", "orders"):
                upstream_port = free_port()
                command = [sys.executable, "upstream.py", "--name", name, "--port", str(upstream_port)]
                servers[name] = Server(f"upstream {name}", command, {}, upstream_port, Path(folder, name))
            gateway_port = free_port(port)
            urls = {f"{name.upper()}_URL": server.url for name, server in servers.items()}
            command = [sys.executable, "-m", "velithon", "run", "--app", "gateway:app", "--host", HOST]
            command += ["--port", str(gateway_port), "--workers", str(workers), "--log-level", "WARNING"]
            servers["gateway"] = Server("gateway", command, urls, gateway_port, Path(folder, "gateway"))
            for server in servers.values():
                server.wait_until_ready("/health" if server.name == "gateway" else "/echo")
            yield servers
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave servers behind
            for server in reversed(servers.values()):
                server.stop()


def demonstrate(servers: dict[str, Server], console: Console) -> bool:
    """Send all requests, the last one after its upstream was stopped, and print the table."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("request", "what it shows", "status", "upstream", "sent", "received", "ms", ""):
        numeric = column in ("status", "sent", "received", "ms")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    port = servers["gateway"].port
    good = [run(case, port, table) for case in cases()]
    servers["orders"].stop()
    good.append(run(Case("upstream is down", "GET", "/api/orders/echo", check_down), port, table))
    console.print(table)
    if not all(good):
        console.print("the gateway's output:", servers["gateway"].output(), sep="\n", markup=False)
    return all(good)


def serve(servers: dict[str, Server], console: Console) -> bool:
    """Print what to try, and wait for Ctrl-C."""
    url = servers["gateway"].url
    console.print(f"the gateway runs at {url}; Ctrl-C ends it", highlight=False)
    for line in (
        f"curl -i '{url}/api/users/echo?tag=a&tag=b'",
        f"curl -i -H 'Content-Type: application/json' -d '{{\"item\": \"tea\"}}' {url}/api/orders/echo",
        f"curl -i {url}/api/users/login",
        f"curl -o /dev/null '{url}/api/orders/blob?bytes={FIVE_MB}'",
        f"curl -i '{url}/api/users/slow?seconds=2'",
        f"curl -i {url}/health",
    ):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    status = servers["gateway"].wait()
    raise DemoError(f"the gateway ended with exit status {status}\n{servers['gateway'].output()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="keep the gateway up until Ctrl-C")
    parser.add_argument("--port", type=int, help="port of the gateway (default: a free one; with --serve 8000 if free)")
    parser.add_argument("--workers", type=int, default=2, help="workers of the gateway (default: %(default)s)")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)  # no line is folded in a log
    for number in (signal.SIGTERM, signal.SIGHUP):
        # By default they would end the demo at once and leave its servers behind.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    started = time.monotonic()
    port = options.port if options.port is not None else 8000 if options.serve else 0
    try:
        with running(port, options.workers) as servers:
            if options.serve:
                return 0 if serve(servers, console) else 1
            good = demonstrate(servers, console)
    except DemoError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 0 if options.serve else 130
    word = "all answers are right" if good else "some answers are wrong"
    console.print(f"{word}; {time.monotonic() - started:.1f} s, two upstreams, {options.workers} gateway workers")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
