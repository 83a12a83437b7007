"""velithon-proxy: an in-process HTTP gateway for Python, with its core in Go.

>>> from velithon_proxy import ProxyClient
>>> async with ProxyClient("http://127.0.0.1:8000") as client:
...     status, headers, body = await client.forward_request("GET", "/")

Importing the package starts nothing: the core is loaded by the first request, the gateways when one of their names is
asked for. With Velithon in the process, ``app.add_middleware(ProxyMiddleware(...))`` works as its documentation says.
"""

from types import ModuleType
from typing import TYPE_CHECKING

from ._attempts import CircuitBreakerStatus, PoolStatus, StateChange, TargetStatus
from ._balancer import ProxyLoadBalancer
from ._client import ProxyClient
from ._errors import (
    Attempt,
    BodyTooLargeError,
    CircuitOpenError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    ForkedProcessError,
    InternalError,
    InvalidHeaderError,
    InvalidRequestError,
    InvalidTargetError,
    NoHealthyTargetError,
    PoolExhaustedError,
    PoolTimeout,
    ProxyError,
    ProxyTimeoutError,
    ReadTimeout,
    TLSError,
    TotalTimeout,
    UpstreamClosedError,
    UpstreamProtocolError,
)
from ._headers import Headers
from ._import_hook import when_imported
from ._install import install
from ._policies import Breaker, Health, Retry
from ._response import ProxyResponse
from ._settings import Limits, Timeouts
from ._stream import StreamResponse
from ._tls import TLS, InsecureTLSWarning
from ._version import __version__

if TYPE_CHECKING:
    from .middleware import GatewayResponse, ProxyMiddleware, ProxyRequest, Refusal

__all__ = [
    "TLS",
    "Attempt",
    "BodyTooLargeError",
    "Breaker",
    "CircuitBreakerStatus",
    "CircuitOpenError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ForkedProcessError",
    "GatewayResponse",
    "Headers",
    "Health",
    "InsecureTLSWarning",
    "InternalError",
    "InvalidHeaderError",
    "InvalidRequestError",
    "InvalidTargetError",
    "Limits",
    "NoHealthyTargetError",
    "PoolExhaustedError",
    "PoolStatus",
    "PoolTimeout",
    "ProxyClient",
    "ProxyError",
    "ProxyLoadBalancer",
    "ProxyMiddleware",
    "ProxyRequest",
    "ProxyResponse",
    "ProxyTimeoutError",
    "ReadTimeout",
    "Refusal",
    "Retry",
    "StateChange",
    "StreamResponse",
    "TLSError",
    "TargetStatus",
    "Timeouts",
    "TotalTimeout",
    "UpstreamClosedError",
    "UpstreamProtocolError",
    "__version__",
    "install",
]

_OF_GATEWAYS = frozenset({"GatewayResponse", "ProxyMiddleware", "ProxyRequest", "Refusal"})


def __getattr__(name: str) -> object:
    # Half of what importing this package would cost is theirs, and programs that only use clients need none of them.
    if name not in _OF_GATEWAYS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import middleware

    value: object = getattr(middleware, name)
    globals()[name] = value  # asked once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_GATEWAYS})


def _extend_velithon(module: ModuleType) -> None:
    from .middleware._velithon import extend

    extend(module)


# At once: ``app.add_middleware(velithon_proxy.ProxyMiddleware(...))`` looks for the method before its argument imports
# the gateways.
when_imported("velithon.application", "Velithon", _extend_velithon)
