"""Routes of a Velithon application that forward: in the place of ``velithon.gateway``, with the same names.

>>> from velithon import Velithon
>>> from velithon_proxy.gateway import Gateway
>>> gateway = Gateway()
>>> gateway.add_route("/users/{path:path}", "http://127.0.0.1:9001", strip_path=True)
>>> app = Velithon(routes=gateway.get_routes())

A route is a gateway like :class:`~velithon_proxy.ProxyMiddleware`, with the pattern of a route in the place of a
prefix. It needs Velithon.
"""

from .middleware._routes import Gateway, GatewayRoute, forward_to, gateway_route

__all__ = ["Gateway", "GatewayRoute", "forward_to", "gateway_route"]
