"""A gateway of two services in a Velithon application.

    velithon run --app gateway:app --workers 2

Requests below /api/users and /api/orders go to an upstream each, without that prefix; the application answers all
others itself. USERS_URL and ORDERS_URL say where the upstreams are; `python upstream.py` starts one.
"""

import logging
import os

from velithon import Velithon
from velithon.responses import JSONResponse

from velithon_proxy import ProxyMiddleware

SERVICES = {
    "users": os.environ.get("USERS_URL", "http://127.0.0.1:9001"),
    "orders": os.environ.get("ORDERS_URL", "http://127.0.0.1:9002"),
}

# The clients of a failed request learn its status only; the reason is logged by "velithon_proxy".
logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

app = Velithon(title="gateway")

for name, url in SERVICES.items():
    app.add_middleware(
        ProxyMiddleware(
            target_urls=url,
            path_prefix=f"/api/{name}",
            strategy="single",
            timeout_ms=15000,
            max_retries=2,
            strip_prefix=True,
        )
    )


@app.get("/health")
async def health():
    return JSONResponse({"status": "healthy", "gateway": "velithon-proxy"})


@app.get("/services")
async def services():
    return JSONResponse({"services": list(SERVICES), "endpoints": {name: f"/api/{name}/*" for name in SERVICES}})
