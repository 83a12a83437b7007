"""Lets code that was written for Velithon's own proxy find this one."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

_MODULE: Final = "velithon.middleware.proxy"


def install() -> None:
    """Make ``velithon.middleware.proxy`` this package: what is imported from there is ours.

    It may be called before or after Velithon is imported, and more than once; modules that have taken a name from
    Velithon's proxy before keep it. ``velithon.gateway`` stays Velithon's.
    """
    import velithon_proxy

    module = sys.modules.get(_MODULE)
    if module is None or not hasattr(module, "_velithon_proxy_installed"):
        module = ModuleType(_MODULE, velithon_proxy.__doc__)
        for name in velithon_proxy.__all__:
            setattr(module, name, getattr(velithon_proxy, name))
        module.__all__ = list(velithon_proxy.__all__)  # type: ignore[attr-defined]
        module._velithon_proxy_installed = True  # type: ignore[attr-defined]
        sys.modules[_MODULE] = module
    parent = sys.modules.get("velithon.middleware")
    if parent is not None:
        parent.proxy = module  # type: ignore[attr-defined]
        for name in ("ProxyMiddleware", "ProxyClient", "ProxyLoadBalancer"):
            if hasattr(parent, name):
                setattr(parent, name, getattr(module, name))
