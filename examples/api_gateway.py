"""An API gateway of three services in a Velithon application.

    velithon run --app api_gateway:app --workers 2

Requests below /api/users, /api/orders and /api/payments go to the upstreams of a service, without that prefix; the
application answers all others itself. USERS_URLS, ORDERS_URLS and PAYMENTS_URLS say where the upstreams are, separated
by blanks; `python upstream.py` starts one. All figures are those of the worker that is asked.
"""

import contextvars
import logging
import os
import time
import uuid
from datetime import UTC, datetime

from velithon import Velithon
from velithon.responses import JSONResponse

from velithon_proxy import GatewayResponse, ProxyMiddleware, ProxyRequest

BACKEND_SERVICES = {
    "users": os.environ.get("USERS_URLS", "http://127.0.0.1:9001 http://127.0.0.1:9002").split(),
    "orders": os.environ.get("ORDERS_URLS", "http://127.0.0.1:9003").split(),
    "payments": os.environ.get("PAYMENTS_URLS", "http://127.0.0.1:9004 http://127.0.0.1:9005").split(),
}
RECOVERY_TIMEOUT_MS = int(os.environ.get("RECOVERY_TIMEOUT_MS", "60000"))

# The clients of a failed request learn its status only; the reason is logged by "velithon_proxy".
logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

app = Velithon(title="api-gateway")
gateways: dict[str, ProxyMiddleware] = {}

started = time.monotonic()
arrived: contextvars.ContextVar[float] = contextvars.ContextVar("arrived")
answered = {"count": 0, "seconds": 0.0}


def add_service_headers(request: ProxyRequest, service_name: str) -> ProxyRequest:
    """Add service-specific headers to outgoing requests."""
    arrived.set(time.perf_counter())
    request.headers["X-Service"] = service_name
    request.headers["X-Request-ID"] = f"req-{uuid.uuid4()}"
    request.headers["X-Gateway"] = "Velithon-Proxy"
    return request


def add_api_gateway_headers(response: GatewayResponse) -> GatewayResponse:
    """Add API gateway headers to responses."""
    took = time.perf_counter() - arrived.get()  # both functions run in the task of the request
    answered["count"] += 1
    answered["seconds"] += took
    response.headers["X-Gateway"] = "Velithon"
    response.headers["X-Response-Time"] = f"{took * 1000:.1f} ms"
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE, OPTIONS"
    return response


for service_name, service_urls in BACKEND_SERVICES.items():
    gateways[service_name] = ProxyMiddleware(
        target_urls=service_urls,
        path_prefix=f"/api/{service_name}",
        strategy="round_robin" if len(service_urls) > 1 else "single",
        timeout_ms=15000,
        max_retries=2,
        preserve_host=False,
        strip_prefix=True,
        recovery_timeout_ms=RECOVERY_TIMEOUT_MS,
        transform_request=lambda request, service=service_name: add_service_headers(request, service),
        transform_response=add_api_gateway_headers,
    )
    app.add_middleware(gateways[service_name])


def health_of(targets: list[dict]) -> str:
    """One word for all upstreams of a service."""
    usable = sum(target["usable"] for target in targets)
    return "healthy" if usable == len(targets) else "degraded" if usable else "unhealthy"


@app.get("/health")
async def health_check():
    """Say how the gateway is, and the services behind it."""
    services = {name: health_of((await gateway.get_proxy_status())["targets"]) for name, gateway in gateways.items()}
    return JSONResponse(
        {
            "status": "healthy" if set(services.values()) == {"healthy"} else "degraded",
            "gateway": "velithon-proxy",
            "services": services,
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


@app.get("/services")
async def list_services():
    """List the services behind the gateway."""
    return JSONResponse(
        {
            "services": list(BACKEND_SERVICES),
            "endpoints": {name: f"/api/{name}/*" for name in BACKEND_SERVICES},
        }
    )


@app.get("/metrics")
async def get_metrics():
    """Show what the gateway has done since it was started."""
    states = {name: await gateway.get_proxy_status() for name, gateway in gateways.items()}
    total = sum(state["requests"] for state in states.values())
    return JSONResponse(
        {
            "requests_total": total,
            "requests_per_second": round(total / (time.monotonic() - started), 3),
            "average_response_time_ms": round(1000 * answered["seconds"] / max(answered["count"], 1), 3),
            "requests_failed": {name: state["failures"] for name, state in states.items()},
            "retries": {name: state["retries"] for name, state in states.items()},
            "circuit_breaker_status": {
                name: [target["breaker"]["state"] for target in state["targets"]] for name, state in states.items()
            },
            "backend_health": {name: health_of(state["targets"]) for name, state in states.items()},
            "worker": os.getpid(),
        }
    )
