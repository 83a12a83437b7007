"""The import arrows of the Python and C layers: python -> _bridge -> (loaded at run time) capi.

Those of the Go layers are checked by tools/layers, which `make lint-go` runs and which has tests of its own.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "velithon_proxy"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

#: Third-party packages and the modules that may import them; the value None means all modules.
ALLOWED_PACKAGES: dict[str, set[str] | None] = {
    "multidict": None,  # the only dependency of the distribution
    "velithon": {"middleware/_velithon.py", "middleware/_routes.py"},  # an optional extra: its adapters
}
#: Go is reached through the bridge alone, which knows when it may be started.
OTHER_WAYS_INTO_C = {"ctypes", "cffi", "_ctypes"}


def imports(module: str, source: str | None = None) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything a module of the package imports, also inside functions."""
    path = PACKAGE / module
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
    package = ["velithon_proxy", *Path(module).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for name in node.names:
                yield node.lineno, f"{origin}.{name.name}"


def broken_rules(module: str, source: str | None = None) -> list[str]:
    """One line per import of a module that goes against the arrows."""
    found: list[str] = []
    for line, name in imports(module, source):
        top = name.partition(".")[0]
        if top in OTHER_WAYS_INTO_C:
            found.append(f"{module}:{line}: {name}: native code is reached through _bridge alone")
        elif top == "velithon_proxy":
            in_middleware = module.startswith("middleware/")
            facade = module in ("__init__.py", "gateway.py")  # export what every layer offers
            if name.startswith("velithon_proxy.middleware") and not in_middleware and not facade:
                found.append(f"{module}:{line}: {name}: the client knows no middleware")
            if name.startswith("velithon_proxy._bridge") and in_middleware:
                found.append(f"{module}:{line}: {name}: the middleware uses the client, not the bridge")
        elif top not in sys.stdlib_module_names:
            where = ALLOWED_PACKAGES.get(top, set())
            if where is not None and module not in where:
                found.append(f"{module}:{line}: {name}: not a dependency of this module")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_the_module_imports_downwards_only(module: str) -> None:
    assert broken_rules(module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_client.py", "import ctypes"),
        ("_client.py", "from velithon_proxy.middleware import ProxyMiddleware"),
        ("_client.py", "def f():\n    from .middleware import _gateway"),
        ("_client.py", "import aiohttp"),
        ("middleware/_rsgi.py", "import velithon"),
        ("middleware/_rsgi.py", "from .. import _bridge"),
    ],
)
def test_the_check_sees_a_broken_rule(module: str, source: str) -> None:
    assert len(broken_rules(module, source)) == 1


def test_the_check_allows_what_is_meant() -> None:
    assert broken_rules("middleware/_velithon.py", "import velithon, asyncio\nfrom .._client import ProxyClient") == []
    assert broken_rules("_headers.py", "from multidict import CIMultiDict\nfrom . import _bridge") == []


def includes(folder: Path) -> dict[str, set[str]]:
    """The headers that the C, header and Go files of a folder include, by file name."""
    pattern = re.compile(r'^(?://\s*|\s*)#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
    files = [path for suffix in ("*.c", "*.h", "*.go") for path in folder.glob(suffix)]
    return {path.name: set(pattern.findall(path.read_text(encoding="utf-8"))) for path in files}


def test_the_core_library_knows_no_python() -> None:
    assert {name: found for name, found in includes(ROOT / "capi").items() if "Python.h" in found} == {}


def test_the_bridge_knows_the_core_by_its_contract_alone() -> None:
    ours = {path.name for path in (ROOT / "capi").glob("*.h")}
    used = set[str]().union(*includes(PACKAGE).values()) & ours
    assert used, "the bridge includes no header of capi: nothing would be checked"
    assert used <= {"abi.h", "queue.h"}
