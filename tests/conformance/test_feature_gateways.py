"""The examples of the feature document about the middleware, unchanged but for the hosts: `install` makes them run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_process import GatewayProcess, request
from scripted_upstream import Exchange, Request, ScriptedUpstream, reply

pytestmark = pytest.mark.slow

MIDDLEWARE = """
from velithon import Velithon
from velithon.middleware.proxy import ProxyMiddleware

app = Velithon()

# Add proxy middleware for API routes
proxy_middleware = ProxyMiddleware(
    target_urls=["https://api1.example.com", "https://api2.example.com"],
    path_prefix="/api",
    strategy="round_robin",
    timeout_ms=15000,
    max_retries=2,
    preserve_host=True,
    strip_prefix=True
)

app.add_middleware(proxy_middleware)
"""

# The document writes both functions inside the call, which no Python takes; they are named here.
TRANSFORMS = """
from velithon import Velithon
from velithon.middleware.proxy import ProxyMiddleware

def transform_request(request):
    # Add authentication header
    request.headers["X-API-Key"] = "secret-key"

    # Modify path
    request.path = f"/v2{request.path}"

    return request

# Transform responses before returning
def transform_response(response):
    # Add CORS headers
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response

proxy_middleware = ProxyMiddleware(
    target_urls=["https://backend.example.com"],
    transform_request=transform_request,
    transform_response=transform_response,
)
app = Velithon()
app.add_middleware(proxy_middleware)
"""

EXAMPLE = """
from velithon import Velithon
from velithon.middleware.proxy import ProxyMiddleware
from velithon.responses import JSONResponse

app = Velithon()

# API Gateway Configuration
BACKEND_SERVICES = {
    "users": ["https://users-api-1.example.com", "https://users-api-2.example.com"],
    "orders": ["https://orders-api.example.com"],
    "payments": ["https://payments-api-1.example.com", "https://payments-api-2.example.com"],
}

# Add proxy middleware for each service
for service_name, service_urls in BACKEND_SERVICES.items():
    proxy_middleware = ProxyMiddleware(
        target_urls=service_urls,
        path_prefix=f"/api/{service_name}",
        strategy="round_robin" if len(service_urls) > 1 else "single",
        timeout_ms=15000,
        max_retries=2,
        preserve_host=False,
        strip_prefix=True,

        # Add service-specific headers
        transform_request=lambda req, svc=service_name: add_service_headers(req, svc),

        # Transform responses for consistency
        transform_response=lambda resp: add_api_gateway_headers(resp)
    )

    app.add_middleware(proxy_middleware)

def add_service_headers(request, service_name):
    '''Add service-specific headers to outgoing requests.'''
    request.headers["X-Service"] = service_name
    request.headers["X-Request-ID"] = f"req-{hash(request.path)}"
    request.headers["X-Gateway"] = "Velithon-Proxy"
    return request

def add_api_gateway_headers(response):
    '''Add API gateway headers to responses.'''
    response.headers["X-Gateway"] = "Velithon"
    response.headers["X-Response-Time"] = "fast"
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE, OPTIONS"
    return response

# Health check endpoint
@app.get("/health")
async def health_check():
    '''Check health of API gateway and backend services.'''
    return JSONResponse({
        "status": "healthy",
        "gateway": "velithon-proxy",
        "timestamp": "2025-06-11T00:00:00Z"
    })

# Service discovery endpoint
@app.get("/services")
async def list_services():
    '''List available backend services.'''
    return JSONResponse({
        "services": list(BACKEND_SERVICES.keys()),
        "endpoints": {
            name: f"/api/{name}/*"
            for name in BACKEND_SERVICES.keys()
        }
    })

# Metrics endpoint (would normally integrate with your monitoring system)
@app.get("/metrics")
async def get_metrics():
    '''Get proxy metrics (placeholder for real implementation).'''
    return JSONResponse({
        "requests_total": 12345,
        "requests_per_second": 42.5,
        "average_response_time_ms": 156,
        "circuit_breaker_status": {
            "users": "closed",
            "orders": "closed",
            "payments": "closed"
        },
        "backend_health": {
            service: "healthy" for service in BACKEND_SERVICES.keys()
        }
    })
"""

HOSTS = ("api1", "api2", "backend", "users-api-1", "users-api-2", "orders-api", "payments-api-1", "payments-api-2")


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, ScriptedUpstream]]:
    running = {host: ScriptedUpstream() for host in HOSTS}
    yield running
    for upstream in running.values():
        upstream.close()


def serving(program: str, folder: Path, upstreams: dict[str, ScriptedUpstream]) -> GatewayProcess:
    for host, upstream in upstreams.items():
        upstream.answers(reply("200 OK", f"X-Host: {host}", body=b"x"))
        program = program.replace(f"https://{host}.example.com", upstream.url)
    assert "https://" not in program
    (folder / "app_of_the_document.py").write_text("import velithon_proxy\nvelithon_proxy.install()\n" + program)
    return GatewayProcess("app_of_the_document:app", folder=folder)


def test_the_middleware(tmp_path: Path, upstreams: dict[str, ScriptedUpstream]) -> None:
    with serving(MIDDLEWARE, tmp_path, upstreams) as gateway:
        hosts = [gateway.get("/api/x?y").values("x-host")[0] for _ in range(4)]
        assert sorted(hosts) == [b"api1", b"api1", b"api2", b"api2"]
        received = upstreams["api1"].ledger.of("request")[0]
        assert received.target == "/x?y"  # type: ignore[attr-defined]
        assert received.values("host") == ["gateway.example:81"]  # type: ignore[attr-defined]
        assert gateway.get("/apix").status == 404


def test_the_transforms(tmp_path: Path, upstreams: dict[str, ScriptedUpstream]) -> None:
    with serving(TRANSFORMS, tmp_path, upstreams) as gateway:
        assert gateway.get("/data?x").values("access-control-allow-origin") == [b"*"]
    received = upstreams["backend"].ledger.of("request")[-1]
    assert isinstance(received, Request)
    assert received.target == "/v2/data?x"
    assert received.values("x-api-key") == ["secret-key"]


def test_the_whole_example(tmp_path: Path, upstreams: dict[str, ScriptedUpstream]) -> None:
    with serving(EXAMPLE, tmp_path, upstreams) as gateway:
        for service, hosts in (("users", 2), ("orders", 1), ("payments", 2)):
            answers = [gateway.get(f"/api/{service}/profile") for _ in range(2)]
            assert {answer.values("x-host")[0].partition(b"-")[0].decode() for answer in answers} == {service}
            assert len({answer.values("x-host")[0] for answer in answers}) == hosts
            assert answers[0].values("x-gateway") == [b"Velithon"]
            assert answers[0].values("access-control-allow-origin") == [b"*"]
        received = upstreams["orders-api"].ledger.of("request")[0]
        assert received.target == "/profile"  # type: ignore[attr-defined]
        assert received.values("x-service") == ["orders"]  # type: ignore[attr-defined]
        assert received.values("x-gateway") == ["Velithon-Proxy"]  # type: ignore[attr-defined]
        assert gateway.send(request("POST", "/api/payments/process", body=b"{}")).status == 200
        assert json.loads(gateway.get("/health").body)["gateway"] == "velithon-proxy"
        assert json.loads(gateway.get("/services").body)["services"] == ["users", "orders", "payments"]
        assert json.loads(gateway.get("/metrics").body)["requests_total"] == 12345  # the document's placeholder

        upstreams["orders-api"].does(Exchange.reset)
        assert gateway.get("/api/orders/x").status == 502
