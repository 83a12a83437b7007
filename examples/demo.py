"""Runs the gateway of api_gateway.py before the upstreams of three services and sends real requests through it.

    python demo.py           start everything, send the requests, let upstreams fail and come back, stop everything
    python demo.py --serve   start everything and keep it up, to try it with curl

Every answer is checked; the exit status is 1 if one of them is wrong. Needs the extra `demo` of velithon-proxy.
"""

import argparse
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import demo_outage
from demo_cases import FIVE_MB, HOST, Case, cases, send
from rich import box
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
START_LIMIT = 30.0  # seconds
SERVICES = {"users": 2, "orders": 1, "payments": 2}  # and how many upstreams they have


class DemoError(Exception):
    """Something does not run as it should; the text is shown."""


class Server:
    """A server process in a process group of its own, with its output in a file."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], port: int, log: Path) -> None:
        self.name, self.port, self._log = name, port, log
        self._command, self._environment = command, environment
        self.start()

    def start(self) -> None:
        """Start the process, for the first time or after it was stopped."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=HERE,
                env={**os.environ, **self._environment},
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
    """Start all upstreams and the gateway, and stop them in any case."""
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory(prefix="velithon-proxy-demo-") as folder:
        try:
            environment = {"RECOVERY_TIMEOUT_MS": str(demo_outage.RECOVERY_TIMEOUT_MS)}
            for service, count in SERVICES.items():
                for number in range(1, count + 1):
                    name, upstream_port = f"{service}-{number}", free_port()
                    command = [sys.executable, "upstream.py", "--name", name, "--port", str(upstream_port)]
                    servers[name] = Server(f"upstream {name}", command, {}, upstream_port, Path(folder, name))
                urls = [server.url for name, server in servers.items() if name.startswith(service)]
                environment[f"{service.upper()}_URLS"] = " ".join(urls)
            gateway_port = free_port(port)
            command = [sys.executable, "-m", "velithon", "run", "--app", "api_gateway:app", "--host", HOST]
            command += ["--port", str(gateway_port), "--workers", str(workers), "--log-level", "WARNING"]
            servers["gateway"] = Server("gateway", command, environment, gateway_port, Path(folder, "gateway"))
            for server in servers.values():
                server.wait_until_ready("/services" if server.name == "gateway" else "/echo")
            yield servers
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave servers behind
            for server in reversed(servers.values()):
                server.stop()


def demonstrate(servers: dict[str, Server], console: Console) -> bool:
    """Send all requests, let upstreams fail and come back, and print a table of each."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("request", "what it shows", "status", "upstream", "sent", "received", "ms", ""):
        numeric = column in ("status", "sent", "received", "ms")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    port = servers["gateway"].port
    wrong = [case for case in cases() if not run(case, port, table)]
    console.print(table)
    outage = demo_outage.Outage(port)
    good = outage.run(servers["payments-1"], servers["orders-1"]) and not wrong
    console.print(outage.table)
    if not good:
        console.print("the gateway's output:", servers["gateway"].output(), sep="\n", markup=False)
    return good


def serve(servers: dict[str, Server], console: Console) -> bool:
    """Print what to try, and wait for Ctrl-C."""
    url = servers["gateway"].url
    console.print(f"the gateway runs at {url}; Ctrl-C ends it", highlight=False)
    for line in (
        f"curl -i '{url}/api/users/echo?tag=a&tag=b'",
        f"curl -i -H 'Content-Type: application/json' -d '{{\"item\": \"tea\"}}' {url}/api/orders/echo",
        f"curl -i {url}/api/users/login",
        f"curl -o /dev/null '{url}/api/orders/blob?bytes={FIVE_MB}'",
        f"curl -i '{url}/api/payments/slow?seconds=2'",
        f"curl -i {url}/metrics",
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
    console.print(f"{word}; {time.monotonic() - started:.1f} s, five upstreams, {options.workers} gateway workers")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
