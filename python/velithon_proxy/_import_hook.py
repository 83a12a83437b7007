"""Tells when somebody else's module is imported, without importing it: who has none of it must not pay for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    # importlib.abc brings in half of the library's tools for reading package data.
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec


def when_imported(name: str, attribute: str, then: Callable[[ModuleType], None]) -> None:
    """Call ``then`` with a module: now if it is imported and has the attribute, otherwise once it was executed.

    Of one name only the first call counts, as a module is executed once.
    """
    module = sys.modules.get(name)
    if module is not None and hasattr(module, attribute):
        then(module)
    elif not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, then))


class _Finder:
    """Finds one module, by asking the others, in order to be there when it is executed."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self.name: Final = name
        self._then: Final = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, _Finder) else getattr(finder, "find_spec", None)
            spec = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Loader(spec.loader, self._then))
                return spec
        return None


class _Loader:
    """Executes a module as its own loader does, then tells."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self._loader: Final = loader
        self._then: Final = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Whoever looks for the source or the data of the module asks its loader.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)
