"""velithon-proxy: an in-process HTTP gateway for Python, with its core in Go.

>>> from velithon_proxy import ProxyClient
>>> async with ProxyClient("http://127.0.0.1:8000") as client:
...     status, headers, body = await client.forward_request("GET", "/")

Importing the package starts nothing: the core is loaded by the first request. With Velithon in the process,
``app.add_middleware(ProxyMiddleware(...))`` works as its documentation says.
"""

import logging

from ._client import ProxyClient
from ._errors import (
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
from ._response import ProxyResponse
from ._settings import Limits, Timeouts
from ._stream import StreamResponse
from ._tls import TLS, InsecureTLSWarning
from ._version import __version__
from .middleware import ProxyMiddleware

__all__ = [
    "TLS",
    "BodyTooLargeError",
    "CircuitOpenError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ForkedProcessError",
    "Headers",
    "InsecureTLSWarning",
    "InternalError",
    "InvalidHeaderError",
    "InvalidRequestError",
    "InvalidTargetError",
    "Limits",
    "NoHealthyTargetError",
    "PoolExhaustedError",
    "PoolTimeout",
    "ProxyClient",
    "ProxyError",
    "ProxyMiddleware",
    "ProxyResponse",
    "ProxyTimeoutError",
    "ReadTimeout",
    "StreamResponse",
    "TLSError",
    "Timeouts",
    "TotalTimeout",
    "UpstreamClosedError",
    "UpstreamProtocolError",
    "__version__",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
