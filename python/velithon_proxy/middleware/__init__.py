"""Gateways inside an application: requests below a path prefix go to an upstream, the others to the application.

``_gateway.py`` decides, ``_paths.py`` and ``_answers.py`` are its parts, and there is one adapter file for each
server interface (``_rsgi.py``) and framework (``_velithon.py``).
"""

from . import _velithon
from ._middleware import ProxyMiddleware

__all__ = ["ProxyMiddleware"]

_velithon.extend()
