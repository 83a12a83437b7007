"""Scripts: what importing the package does to a process, and what it does not."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path

from isolated_scripts import client, core_loaded, exit_code, in_child, run, threads, use_once


def _signals() -> dict[str, str]:
    """Caught, ignored and blocked signals."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        key: value for key, _, value in (line.partition(":") for line in lines) if key in ("SigBlk", "SigIgn", "SigCgt")
    }


def starts_nothing() -> None:
    # Go raises the soft limit to the hard one while it starts, so a core loaded by the import would show.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    before, signals = (256, hard), _signals()
    import velithon_proxy

    one = velithon_proxy.ProxyClient("http://127.0.0.1:1")
    repr(one)
    one.close()
    assert threads() == 1
    assert not core_loaded()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    assert _signals() == signals
    # The same questions find the core once it is there.
    run(use_once())
    assert threads() > 1
    assert core_loaded()
    assert _signals() != signals


def fork_without_a_warning() -> None:
    """From 3.12 on os.fork() warns in a process with more than one thread."""
    warnings.simplefilter("error")
    import velithon_proxy

    one = velithon_proxy.ProxyClient("http://127.0.0.1:1")
    assert in_child(lambda: None) == 0
    child = os.fork()
    if child == 0:
        sys.exit(4)  # through the whole end of an interpreter
    assert exit_code(child) == 4
    one.close()


def load_fails(*expected: str) -> None:
    """A request raises ImportError, each time the same; the text has all of ``expected``."""
    one = client()
    texts, frames = [], []
    for _ in range(3):
        try:
            asyncio.run(one.forward_request("GET", "/"))
        except ImportError as error:
            texts.append(str(error))
            frames.append(len(list(traceback.walk_tb(error.__traceback__))))
    assert len(texts) == 3, texts
    assert len(set(texts)) == 1
    assert frames[1] == frames[2], "an error that is raised again keeps the frames of all requests"
    for part in expected:
        assert part in texts[0], texts[0]
    # Nothing is in use, so closing is quiet, and a fork is allowed.
    one.close()
    assert in_child(lambda: None) == 0


def refused_in_a_subinterpreter(bridge: str) -> None:
    """The core exists once per process: only the main interpreter may use it. Imported without the package around it,
    so that any Python of the machine can be asked."""
    code = (
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('velithon_proxy._bridge', {bridge!r})\n"
        "try:\n"
        "    module = importlib.util.module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "else:\n"
        "    print('imported')\n"
    )
    if sys.version_info >= (3, 13):
        import _interpreters as interpreters
    else:
        import _xxsubinterpreters as interpreters
    identifier = interpreters.create()
    interpreters.run_string(identifier, code)
    interpreters.destroy(identifier)
    # The main interpreter is not harmed.
    exec(code.replace("exec_module(module)", "exec_module(module); raise ImportError('main: imported')"), {})
