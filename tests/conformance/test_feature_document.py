"""The examples of the feature document about the client, the balancer and the breaker, as they are written there, but
for the import line and the hosts."""

from __future__ import annotations

import ast
import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from client_upstream import Upstream, answer, replying

import velithon_proxy

CLIENT = """
proxy = ProxyClient(
    target_url="https://api.example.com",
    timeout_ms=30000,
    max_retries=3
)

# Forward a request
status, headers, body = await proxy.forward_request(
    method="GET",
    path="/users/123",
    headers={"Authorization": "Bearer token"},
    query_params={"include": "profile"}
)

print(f"Status: {status}")
print(f"Headers: {headers}")
print(f"Body length: {len(body)}")
"""

BALANCER = """
lb = ProxyLoadBalancer(
    targets=[
        "https://api1.example.com",
        "https://api2.example.com",
        "https://api3.example.com"
    ],
    strategy="round_robin",
    health_check_url="/health"
)

# Get next available target
target = await lb.get_next_target()
print(f"Selected target: {target}")

# Check health status
health = await lb.get_health_status()
print(f"Health status: {health}")

# Perform health check
await lb.health_check()
"""

WEIGHTED = """
lb = ProxyLoadBalancer(
    targets=["server1", "server2", "server3"],
    strategy="weighted",
    weights=[50, 30, 20]  # Server1 gets 50% of traffic
)
"""

BREAKER = """
proxy = ProxyClient(
    target_url="https://api.example.com",
    max_failures=5,        # Open circuit after 5 failures
    recovery_timeout_ms=60000  # Try again after 60 seconds
)

# Check circuit breaker status
status, failures, last_failure = await proxy.get_circuit_breaker_status()
print(f"Circuit breaker: {status}, failures: {failures}")

# Manually reset circuit breaker
await proxy.reset_circuit_breaker()
"""

HEALTH = """
lb = ProxyLoadBalancer(
    targets=["https://service1.com", "https://service2.com"],
    health_check_url="/health/ready"  # Custom health endpoint
)

# Manual health check
await lb.health_check()

# Get detailed health status
health_status = await lb.get_health_status()
for target, is_healthy in health_status:
    print(f"{target}: {'healthy' if is_healthy else 'unhealthy'}")
"""

MONITORING = """
# Monitor circuit breaker status
status = await proxy.get_circuit_breaker_status()
print(f"Circuit: {status[0]}, Failures: {status[1]}")

# Monitor load balancer health
health = await lb.get_health_status()
healthy_count = sum(1 for _, is_healthy in health if is_healthy)
print(f"Healthy targets: {healthy_count}/{len(health)}")
"""

ERRORS = """
try:
    result = await proxy.forward_request("GET", "/api/data")
except Exception as e:
    print(f"Proxy error: {e}")
    # Handle error appropriately
"""


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Upstreams in the place of the document's hosts."""
    with contextlib.ExitStack() as stack:
        names = ("api", "api1", "api2", "api3", "service1", "service2")
        reply = answer(b'{"id": 123}', b"Content-Type: application/json")
        running = {name: stack.enter_context(Upstream(replying(reply))).url for name in names}
        yield {
            **{f"https://{name}.example.com": url for name, url in running.items()},
            **{f"https://{name}.com": url for name, url in running.items()},
        }


async def run(snippet: str, hosts: dict[str, str], **names: Any) -> dict[str, Any]:
    for given, url in hosts.items():
        snippet = snippet.replace(f'"{given}"', f'"{url}"')
    namespace: dict[str, Any] = {**vars(velithon_proxy), **names}
    code = compile(snippet, "feature document", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, namespace)
    if inspect.isawaitable(made):
        await made
    for name in ("proxy", "lb"):
        if name in namespace and name not in names:
            await namespace[name].aclose()
    return namespace


async def test_the_client(hosts: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    await run(CLIENT, hosts)
    shown = capsys.readouterr().out
    assert "Status: 200\n" in shown
    assert "Body length: 11\n" in shown


async def test_the_balancer(hosts: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    made = await run(BALANCER, hosts)
    assert made["target"] in [hosts[f"https://api{i}.example.com"] for i in (1, 2, 3)]
    assert made["health"] == [(hosts[f"https://api{i}.example.com"], True) for i in (1, 2, 3)]
    assert "Selected target: http://127.0.0.1:" in capsys.readouterr().out


async def test_weights(hosts: dict[str, str]) -> None:
    balancer = (await run(WEIGHTED, hosts))["lb"]
    assert [(target.target, target.weight) for target in velithon_proxy.ProxyLoadBalancer(
        ["server1", "server2", "server3"], "weighted", [50, 30, 20]
    ).snapshot().targets] == [("server1", 50), ("server2", 30), ("server3", 20)]  # fmt: skip
    assert "closed" in repr(balancer)


async def test_the_breaker(hosts: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    await run(BREAKER, hosts)
    assert capsys.readouterr().out == "Circuit breaker: closed, failures: 0\n"


async def test_health_checks(hosts: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    await run(HEALTH, hosts)
    assert capsys.readouterr().out == "".join(f"{hosts[f'https://service{i}.com']}: healthy\n" for i in (1, 2))


async def test_monitoring_and_errors(hosts: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        velithon_proxy.ProxyClient("http://127.0.0.1:1") as proxy,
        velithon_proxy.ProxyLoadBalancer([hosts["https://service1.com"], "http://127.0.0.1:1"]) as lb,
    ):
        await run(ERRORS, hosts, proxy=proxy)
        await run(MONITORING, hosts, proxy=proxy, lb=lb)
    shown = capsys.readouterr().out
    assert shown.startswith("Proxy error: GET http://127.0.0.1:1 failed while connecting")
    assert shown.endswith("Circuit: closed, Failures: 1\nHealthy targets: 2/2\n")
