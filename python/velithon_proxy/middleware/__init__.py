"""Gateways inside an application: requests below a path prefix go to an upstream, the others to the application.

``_gateway.py`` decides; ``_paths.py``, ``_fields.py``, ``_trust.py``, ``_transforms.py`` and ``_answers.py`` are its
parts. There is an adapter for each server interface (``_rsgi.py``, ``_asgi.py``) and framework (``_velithon.py``).
"""

from ._answers import Refusal
from ._middleware import ProxyMiddleware
from ._transforms import GatewayResponse, ProxyRequest

__all__ = ["GatewayResponse", "ProxyMiddleware", "ProxyRequest", "Refusal"]
