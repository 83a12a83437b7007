"""Notices when Velithon is imported, in whichever order, and never imports it: who has none of it must not pay for it.

``app.add_middleware(velithon_proxy.ProxyMiddleware(...))`` looks the method up before the argument exists, so neither
the constructor nor the import of the gateways would be early enough to add it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    # importlib.abc brings in half of the library's tools for reading package data.
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

_MODULE: Final = "velithon.application"


def watch_for_velithon() -> None:
    """Extend Velithon now if it is imported, otherwise when it is."""
    module = sys.modules.get(_MODULE)
    if hasattr(module, "Velithon"):
        _extend(cast("ModuleType", module))
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds one module, by asking the others, in order to be there when it is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, _Finder) else getattr(finder, "find_spec", None)
            spec = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Loader(spec.loader))
                return spec
        return None


class _Loader:
    """Executes a module as its own loader does, then extends it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Whoever looks for the source or the data of the module asks its loader.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _extend(module)


def _extend(module: ModuleType) -> None:
    from .middleware._velithon import extend  # half of what importing this package would cost otherwise

    extend(module)
