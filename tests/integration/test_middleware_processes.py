"""Workers from start to end, and a gateway that is an application by itself."""

from __future__ import annotations

import json
import signal
import threading

import pytest
from gateway_process import LIMIT, GatewayProcess, assert_error, request
from scripted_upstream import Exchange, ScriptedUpstream, reply

pytestmark = pytest.mark.slow


@pytest.fixture(params=["bare", "velithon"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def start(kind: str, upstream: ScriptedUpstream, **options: object) -> GatewayProcess:
    environment = {
        "UPSTREAM": upstream.url,
        "FRAMEWORK": kind,
    }
    return GatewayProcess(f"gateway_apps:{kind}", environment=environment, **options)  # pyright: ignore


@pytest.mark.parametrize("loop", ["uvloop", "rloop", "asyncio"])
def test_a_stopped_worker_closes_its_connections(kind: str, loop: str, upstream: ScriptedUpstream) -> None:
    upstream.answers(reply(body=b"x"))
    with start(kind, upstream, loop=loop, workers=2) as gateway:
        for path in ("/api/x", "/host/x", "/strip/me/x"):
            assert gateway.get(path).body == b"x"
        gateway.wait_for_workers(2)
        assert gateway.stop() == 0
        output = gateway.output()
    assert "Traceback" not in output
    assert output.count("gateways still open: 0") == 2  # one line from each worker
    assert "Exception ignored" not in output
    if kind == "bare":
        assert output.count("the application starts") == 2, "the hooks of the application behind the gateways"


def test_a_stop_lets_a_request_under_way_finish(kind: str, upstream: ScriptedUpstream) -> None:
    stopping = threading.Event()

    def script(exchange: Exchange) -> None:
        assert stopping.wait(LIMIT)
        exchange.send(reply(body=b"late"))

    upstream.does(script)
    with start(kind, upstream) as gateway, gateway.connect() as client:
        client.send(request("GET", "/api/x"))
        upstream.ledger.wait_for("request")
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for_output("Stopping worker-1")
        stopping.set()
        assert client.answer().body == b"late"
        assert gateway.stop() == 0


def test_several_gateways_of_one_class_in_a_velithon_application_all_work(upstream: ScriptedUpstream) -> None:
    """Velithon 0.6.10 keeps one middleware of each class, the first."""
    with start("velithon", upstream) as gateway:
        for path in ("/one/x", "/two/x", "/api/x", "/host/x", "/slow/x"):
            upstream.answers(reply(body=b"x"))
            assert gateway.get(path).body == b"x"
            assert upstream.only_request().target == path


def test_a_gateway_alone_answers_other_paths_with_404(upstream: ScriptedUpstream) -> None:
    upstream.answers(reply(body=b"x"))
    with GatewayProcess("gateway_apps:alone", environment={"UPSTREAM": upstream.url}) as gateway:
        assert gateway.get("/api/x").body == b"x"
        for path in ("/", "/apix", "*"):
            assert_error(gateway.get(path), 404)
        assert json.loads(gateway.get("/x").body)["error"] == "Not Found"
        handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        assert gateway.get("/x", *handshake, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==").status == 404
        assert gateway.stop() == 0
    assert len(upstream.ledger.of("request")) == 1


def test_a_gateway_of_everything_opens_no_tunnels(upstream: ScriptedUpstream) -> None:
    upstream.answers(reply(body=b"x"))  # C3, R27
    with GatewayProcess("gateway_apps:everything", environment={"UPSTREAM": upstream.url}) as gateway:
        upstream.answers(reply(body=b"x"))
        assert gateway.send(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n").status == 501
        for target in ("*", "https:evil", "evil.example"):
            assert_error(gateway.get(target), 400)
        assert upstream.ledger.events == []
        assert gateway.send(request("OPTIONS", "*")).body == b"x"
        assert upstream.only_request().target == "*"
