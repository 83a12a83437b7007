"""Velithon's class is extended whichever package comes first; each test has an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("velithon")

# The other interpreter finds rsgi_server.py as well.
FOLDERS = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS)}

WORKS = """
first = ProxyMiddleware("http://up:1", "/a")
app = Velithon()
app.add_middleware(first)
app.add_middleware(ProxyMiddleware("http://up:2", "/b"))
assert [entry.cls for entry in app.user_middleware][0] is first
assert len(app.user_middleware) == 2
"""


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "imports",
    [
        "from velithon import Velithon\nfrom velithon_proxy import ProxyMiddleware",
        "from velithon_proxy import ProxyMiddleware\nfrom velithon import Velithon",
        "import velithon_proxy\nfrom velithon.application import Velithon\nfrom velithon_proxy import ProxyMiddleware",
        "import velithon\nimport velithon_proxy\nfrom velithon_proxy.middleware import *\nVelithon = velithon.Velithon",
    ],
)
def test_add_middleware_is_there_in_either_order(imports: str) -> None:
    run(imports + WORKS)


def test_the_method_is_there_before_its_argument_is_asked_for() -> None:
    # app.add_middleware is looked up first, and only then velithon_proxy.ProxyMiddleware, which imports the gateways.
    run("""
import velithon_proxy
from velithon import Velithon
Velithon().add_middleware(velithon_proxy.ProxyMiddleware("http://up:1", "/a"))
""")


def test_gateways_are_imported_when_one_of_their_names_is_asked_for() -> None:
    run("""
import sys, velithon_proxy
gateways = {"GatewayResponse", "ProxyMiddleware", "ProxyRequest", "Refusal"}
assert "velithon_proxy.middleware" not in sys.modules and "multidict" not in sys.modules
assert gateways <= set(velithon_proxy.__all__) <= set(dir(velithon_proxy))
assert {name for name in gateways if getattr(velithon_proxy, name).__name__ == name} == gateways
try:
    velithon_proxy.Middleware
except AttributeError as error:
    assert "Middleware" in str(error)
else:
    raise SystemExit("an attribute that is not there")
""")


def test_velithon_is_not_imported_by_this_package() -> None:
    run("""
import sys, velithon_proxy
assert not [name for name in sys.modules if name.partition(".")[0] in ("velithon", "granian")]
""")


def test_a_missing_velithon_stays_missing() -> None:
    run("""
import sys
class Nothing:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "velithon":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Nothing())
import velithon_proxy
try:
    import velithon
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("found")
""")


def test_the_module_keeps_its_own_loader() -> None:
    run("""
import velithon_proxy, inspect
import velithon.application as module
assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"
assert "class Velithon" in inspect.getsource(module)
assert list(inspect.signature(module.Velithon).parameters)[:2] == ["routes", "middleware"]
""")


def test_an_error_while_velithon_is_imported_is_velithons() -> None:
    run("""
import sys, velithon_proxy
sys.modules["granian"] = None
for _ in range(2):
    try:
        import velithon
    except ImportError as error:
        assert "granian" in str(error)
    else:
        raise SystemExit("imported")
del sys.modules["granian"]
for name in [name for name in sys.modules if name.partition(".")[0] == "velithon"]:
    del sys.modules[name]
from velithon import Velithon
assert Velithon.add_middleware
""")


def test_a_method_of_velithons_own_is_kept() -> None:
    run("""
import velithon.application
velithon.application.Velithon.add_middleware = own = lambda self, middleware: None
import velithon_proxy
assert velithon.application.Velithon.add_middleware is own
""")


def test_classes_and_instances_mix_and_none_is_lost() -> None:
    run("""
from velithon import Velithon
from velithon.middleware import Middleware
from velithon.middleware.cors import CORSMiddleware
from velithon_proxy import ProxyMiddleware
class Own(ProxyMiddleware): pass
app = Velithon(middleware=[
    Middleware(ProxyMiddleware, target_urls="http://up:1", path_prefix="/a"),
    Middleware(CORSMiddleware),
    Middleware(ProxyMiddleware, "http://up:2", "/b"),
    Middleware(Own, "http://up:3", "/c"),
])
app.add_middleware(ProxyMiddleware, target_urls="http://up:4", path_prefix="/d")
app.add_middleware(Middleware(ProxyMiddleware, "http://up:5", "/e"))
app.add_middleware(ProxyMiddleware("http://up:6", "/f"))
stack, found = app.build_middleware_stack(), []
while stack is not None:
    if hasattr(stack, "_gateway"):
        found.append(stack._gateway.prefix)
    stack = getattr(stack, "_owner", None) or getattr(stack, "app", None)
    if type(stack).__name__ == "Router":
        break
assert found == ["/a", "/b", "/c", "/d", "/e", "/f"], found
assert len(app.shutdown_functions) == 6
""")


def test_mistakes_raise_where_they_are_made() -> None:
    run("""
from velithon import Velithon
from velithon.middleware import Middleware
from velithon_proxy import ProxyMiddleware, ConfigurationError
def fails(kind, function):
    try:
        function()
    except kind as error:
        return str(error)
    raise SystemExit("nothing was raised")
fails(ConfigurationError, lambda: Velithon(middleware=[Middleware(ProxyMiddleware, target_urls="nope://")]))
app = Velithon()
fails(ConfigurationError, lambda: app.add_middleware(ProxyMiddleware, target_urls=[]))
assert "not a value of type str" in fails(TypeError, lambda: app.add_middleware("x"))
app.middleware_stack = app.build_middleware_stack()
assert "before the first request" in fails(RuntimeError, lambda: app.add_middleware(ProxyMiddleware("http://up")))
assert app.user_middleware == []
""")


def test_the_first_gateways_take_their_requests_before_velithon_wraps_them() -> None:
    run("""
import asyncio
from rsgi_server import Protocol, Scope
from velithon import Velithon
from velithon.logging import get_logger
from velithon.middleware.cors import CORSMiddleware
from velithon_proxy import ProxyMiddleware

seen, lines = [], []
log = get_logger()
type(log).info = lambda self, message, *arguments, extra=None: lines.append((message % arguments, extra["status"]))
class Noting(ProxyMiddleware):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        forward = self._rsgi.forward
        def noting(scope, protocol):
            answer = forward(scope, protocol)
            if answer is not None:
                seen.append(type(scope).__module__)
            return answer
        self._rsgi.forward = noting
class Other(Noting):
    def __rsgi__(self, scope, protocol):
        raise AssertionError("Velithon asks it for a middleware")
class Guard(Noting):
    def __call__(self, *arguments):
        inner = super().__call__(*arguments)
        async def guarded(scope, protocol):
            protocol.response_empty(401, [])
        return guarded

def answer(app, path):
    protocol = Protocol()
    asyncio.run(app(Scope(path), protocol))
    return protocol.answers[-1][0], seen.pop() if seen else "wrapped"

app = Velithon()
app.add_middleware(Noting("http://127.0.0.1:1", "/a"))
app.add_middleware(Noting("http://127.0.0.1:1", "/b", transform_request=lambda request: None))
app.add_middleware(Noting("http://127.0.0.1:1", "/c"))
got = answer(app, "/a/x")
assert got == (502, "rsgi_server"), got  # as the server hands it over
assert lines.pop() == ("Processed GET /a/x", "502")
for path in ("/b", "/c"):  # a hook may ask for Velithon's request, and the third one comes after it
    status, module = answer(app, path)
    assert (status, module) == (502, "wrapped"), (path, status, module)
    assert lines.pop()[0] == f"Processed GET {path}"

guarded = Velithon()
guarded.add_middleware(CORSMiddleware, allow_origins=["*"])
guarded.add_middleware(Noting("http://127.0.0.1:1", "/a"))
assert answer(guarded, "/a") == (502, "wrapped")

special = Velithon()
special.add_middleware(Other("http://127.0.0.1:1", "/a"))
assert answer(special, "/a") == (502, "wrapped")
special = Velithon()
special.add_middleware(Guard("http://127.0.0.1:1", "/a"))
assert answer(special, "/a") == (401, "wrapped")
""")
