"""What README.md and examples/ tell people to run does what they say, and leaves nothing running."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gateway_process import LIMIT, GatewayProcess
from scripted_upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def readme_program(containing: str) -> str:
    """The Python program in README.md that contains a text."""
    programs = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    (program,) = [program for program in programs if containing in program]
    return program


def marked() -> dict[str, str]:
    """An environment by which all descendants of a process can be found."""
    return {**os.environ, "DEMO_TEST_MARK": uuid.uuid4().hex, "PYTHONUNBUFFERED": "1"}


def descendants(environment: dict[str, str]) -> list[str]:
    mark = f"DEMO_TEST_MARK={environment['DEMO_TEST_MARK']}".encode()
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return [command for command in found if command]  # those without are waiting to be reaped


@linux
def test_the_demo_succeeds_and_leaves_nothing_running() -> None:
    environment = marked()
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 8 + 7
    assert "✗" not in done.stdout
    for line in (
        r"GET /api/users/echo\?tag=a&tag=b\s.*\b200\s+users-[12]\b",
        r"POST /api/orders/echo\s.*\b200\s+orders-1\s+27\b",
        r"POST /api/payments/blob\s.*\b200\s+payments-[12]\s+5,000,000\b",
        r"GET /api/orders/blob\?bytes=5000000\s.*\b200\s+orders-1\s+0\s+5,000,000\b",
        r"GET /api/users/login\s.*\b200\s+users-[12]\b",
        r"GET /health\s.*\b200\s+-",
        r"GET /services\s.*\b200\s+-",
        r"GET /api/usersx\s.*\b404\s+-",
        r"one of them is stopped.*\b20 x 200\s.*\bopen\b.*✓",
        r"the only upstream of orders is stopped.*\b[1-6] x 502\b.*\sopen\s+✓",
        r"its circuit breaker is open.*\b5 x 503\s+open\s+✓",
        r"both are started again.*\b1 x 200\s+closed\s+✓",
        r"orders serves as before\s+10 x 200\s+closed\s+✓",
    ):
        assert re.search(line, done.stdout), f"no line {line!r} in\n{done.stdout}"
    assert descendants(environment) == []


def run_python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


WRONG = {
    "an answer": "demo_cases.check_query = lambda reply: iter(['another query'])",
    "a status": "demo_cases.check_health = lambda reply: demo_cases.expect(reply, 201, None)",
    "no connection": "send = demo.send\ndemo.send = lambda port, *a: send(1 if 'login' in a[1] else port, *a)",
    "an upstream that does not come back": (
        "stop = demo.Server.stop\ndemo_outage._PATIENCE = 0.5\n"
        "demo.Server.stop = lambda self: (setattr(self, 'start', lambda: None), stop(self))"
    ),
}


@linux
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_the_demo_fails_when_an_answer_is_wrong(wrong: str) -> None:
    environment = marked()
    done = run_python(
        f"import sys, demo, demo_cases, demo_outage\n{wrong}\nsys.argv[1:] = []\nsys.exit(demo.main())", environment
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("✗") >= 1
    assert "some answers are wrong" in done.stdout
    assert descendants(environment) == []


@linux
def test_the_demo_says_why_a_server_did_not_start(tmp_path: Path) -> None:
    environment = marked()
    (tmp_path / "upstream.py").write_text("raise SystemExit('no such database')")
    code = f"import sys, demo\ndemo.HERE = demo.Path({str(tmp_path)!r})\nsys.argv[1:] = []\nsys.exit(demo.main())"
    done = run_python(code, environment)
    assert done.returncode == 1
    assert "upstream users-1 ended with exit status 1\nno such database" in done.stdout
    assert descendants(environment) == []


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `demo.py --serve` until it has said what to try; yield the process and what it has printed."""
    command = [sys.executable, str(EXAMPLES / "demo.py"), "--serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stdout is not None
        watchdog = threading.Timer(LIMIT, demo.terminate)
        watchdog.start()
        try:
            printed = ""
            while "/health" not in printed:
                line = demo.stdout.readline()
                assert line, f"it ended after {printed!r}"
                printed += line
            yield demo, printed
        finally:
            watchdog.cancel()
            demo.terminate()


@linux
@pytest.mark.skipif(shutil.which("curl") is None, reason="runs the curl commands that the demo prints")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_the_served_demo_answers_what_it_prints_and_ends_with_a_signal(number: int, status: int) -> None:
    environment = marked()
    with serving(environment) as (demo, printed):
        commands = [line.strip() for line in printed.splitlines() if line.startswith("  curl")]
        assert len(commands) == 7
        for command in commands:
            silent = command.replace("curl", "curl --silent --show-error --fail --max-time 20", 1)
            done = subprocess.run(["sh", "-c", silent], capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        demo.send_signal(number)
        assert demo.wait(LIMIT) == status
    assert descendants(environment) == []


def test_the_first_client_of_the_readme_runs() -> None:
    program = readme_program("ProxyClient")
    with ScriptedUpstream() as upstream:
        upstream.answers(reply("200 OK", "Content-Type: application/json", body=b"{}"))
        assert "http://127.0.0.1:9001" in program
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace("http://127.0.0.1:9001", upstream.url)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "200 application/json 2\n", done.stderr
        request = upstream.only_request()
        assert request.line == "GET /echo?page=2 HTTP/1.1"
        assert request.values("accept") == ["application/json"]


def test_the_first_app_of_the_readme_runs(tmp_path: Path) -> None:
    program = readme_program('path_prefix="/api/users"')
    with ScriptedUpstream() as upstream:
        upstream.answers(reply(body=b"from the upstream"))
        assert "http://127.0.0.1:9001" in program
        (tmp_path / "first_app.py").write_text(program.replace("http://127.0.0.1:9001", upstream.url), encoding="utf-8")
        with GatewayProcess("first_app:app", workers=2, folder=tmp_path) as gateway:
            assert gateway.get("/api/users/echo?a=1").body == b"from the upstream"
            assert gateway.get("/health").body == b'{"status":"healthy"}'
        assert upstream.only_request().target == "/echo?a=1"
