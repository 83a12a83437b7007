"""What ``import velithon_proxy`` costs, and what it leaves behind: fresh interpreters, one after the other."""

from __future__ import annotations

import os
import statistics
import sys
from typing import Any

from programs import run_json
from suites import Request, SuiteSkippedError

_PROBE = """
import asyncio, json, os, sys, time
start, cpu = time.perf_counter(), time.process_time()
try:
    import velithon_proxy
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit()
end, cpu = time.perf_counter(), time.process_time() - cpu
velithon_proxy.ProxyMiddleware
gateways = time.perf_counter()
try:
    threads = len(os.listdir("/proc/self/task"))
    maps = open("/proc/self/maps").read()
except OSError:
    threads, maps = None, ""
print(json.dumps({
    "import_ms": (end - start) * 1e3,
    "gateways_ms": (gateways - end) * 1e3,
    "cpu_ms": cpu * 1e3,
    "threads": threads,
    "go_mapped": int("libvelithonproxy" in maps),
}))
"""


def run(request: Request) -> dict[str, Any]:
    """The suite: medians over fresh interpreters, as the content of a result file."""
    interpreters = 10 if request.quick else 50
    # Or every interpreter would compile the modules, as only the first one of an installation does.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    results: list[dict[str, Any]] = []
    for i in range(interpreters + 1):
        request.step(f"interpreter {i} of {interpreters}")
        result = run_json([sys.executable, "-c", _PROBE], env)
        if "missing" in result:
            raise SuiteSkippedError(result["missing"])
        results.append(result)
    results = results[1:]  # the first one compiled the modules
    return {
        "interpreters": interpreters,
        "import_ms": statistics.median(r["import_ms"] for r in results),
        "gateways_ms": statistics.median(r["gateways_ms"] for r in results),
        "cpu_ms": statistics.median(r["cpu_ms"] for r in results),
        "threads": max((r["threads"] for r in results if r["threads"] is not None), default=None),
        "go_mapped": max(r["go_mapped"] for r in results),
    }
