"""Lets code that was written for Velithon's own proxy find this one."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Final

_PROXY: Final = "velithon.middleware.proxy"
_GATEWAY: Final = "velithon.gateway"


def install() -> None:
    """Make ``velithon.middleware.proxy`` and ``velithon.gateway`` this package: what is imported from there is ours.

    It may be called before or after Velithon is imported, and more than once; modules that have taken a name from
    Velithon's own before keep it.
    """
    import velithon_proxy

    _replace(_PROXY, velithon_proxy)
    if importlib.util.find_spec("velithon") is not None:
        from . import gateway

        _replace(_GATEWAY, gateway)


def _replace(name: str, ours: ModuleType) -> None:
    """Put a module with our names in the place of Velithon's, and our names in the places that have copied its."""
    module = sys.modules.get(name)
    if module is None or not hasattr(module, "_velithon_proxy_installed"):
        module = ModuleType(name, ours.__doc__)
        for public in ours.__all__:
            setattr(module, public, getattr(ours, public))
        module.__all__ = list(ours.__all__)  # type: ignore[attr-defined]
        module._velithon_proxy_installed = True  # type: ignore[attr-defined]
        sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    package = sys.modules.get(parent)
    if package is None:
        return
    setattr(package, child, module)
    for public in ours.__all__:
        # Its package has copies of some; Velithon's own TLS or Headers are something else.
        if getattr(getattr(package, public, None), "__module__", "").startswith(("velithon.gateway", _PROXY)):
            setattr(package, public, getattr(ours, public))
