"""A machine that cannot build the project is told so in one message, before anything is compiled."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from building import ROOT, run_clean


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def folder_with(target: Path, *programs: str) -> str:
    """A PATH of one folder that holds links to some programs of this machine and no other."""
    target.mkdir(parents=True, exist_ok=True)
    for program in programs:
        found = shutil.which(program)
        assert found is not None, program
        (target / program).symlink_to(found)
    return str(target)


def refusal(done: subprocess.CompletedProcess[str], tree: Path) -> str:
    """The message of a failed build, after the checks that hold for each of them."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    assert done.stdout.count("velithon-proxy cannot be built here: ") == 1, done.stdout
    assert not list(tree.rglob("*.o")), "something was compiled before the refusal"
    return done.stdout.partition("velithon-proxy cannot be built here: ")[2]


def build(tree: Path, **extra: str) -> str:
    return refusal(run_clean(sys.executable, "setup.py", "build_ext", cwd=tree, **extra), tree)


def load_toolchain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toolchain", ROOT / "tools" / "toolchain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toolchain"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_without_go(tree: Path, tmp_path: Path) -> None:
    message = build(tree, PATH=folder_with(tmp_path / "bin", "gcc", "cc", "as", "ld"))
    assert "needs Go >= 1.26 and a C compiler; found: there is no `go` on PATH" in message
    assert "VELITHON_PROXY_GO" in message
    assert "VELITHON_PROXY_CORE_LIBRARY" in message


def test_a_named_go_that_does_not_exist(tree: Path, tmp_path: Path) -> None:
    message = build(tree, VELITHON_PROXY_GO=str(tmp_path / "go"))
    assert f"VELITHON_PROXY_GO={tmp_path / 'go'} is not an executable file" in message


def test_a_go_without_toolchain_switching(tree: Path, tmp_path: Path) -> None:
    go = script(tmp_path / "go", "echo go1.19.8")
    assert f"found: go1.19.8 at {go}." in build(tree, VELITHON_PROXY_GO=str(go))


def test_an_older_go_that_is_kept_from_fetching_a_newer_one(tree: Path, tmp_path: Path) -> None:
    # What Go >= 1.21 does: it answers outside of a module, and refuses inside of one that asks for more.
    go = script(
        tmp_path / "go",
        '[ "$2" = GOTOOLCHAIN ] && echo local && exit 0\n'
        'if [ -f go.mod ]; then echo "go: go.mod requires go >= 1.26.0 (running go 1.22.4; GOTOOLCHAIN=local)" >&2\n'
        "exit 1; fi; echo go1.22.4",
    )
    message = build(tree, VELITHON_PROXY_GO=str(go), GOTOOLCHAIN="local")
    assert f"found: go1.22.4 at {go}; GOTOOLCHAIN=local keeps it from fetching a newer one." in message


def test_a_go_that_is_no_go(tree: Path, tmp_path: Path) -> None:
    go = script(tmp_path / "go", "echo a board game; exit 0")
    assert "does not answer `go env GOVERSION`" in build(tree, VELITHON_PROXY_GO=str(go))


def test_without_a_c_compiler(tree: Path) -> None:
    message = build(tree, CC="/nowhere/cc -pthread")
    assert "needs a C compiler, and '/nowhere/cc' (CC) is not on PATH" in message
    assert "libc6-dev" in message


def test_musl(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    # os.confstr is what tells the C libraries apart: musl does not know the name of glibc's version.
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os\ndef confstr(name):\n    raise ValueError('no such name')\nos.confstr = confstr\n",
        encoding="utf-8",
    )
    message = build(tree, PYTHONPATH=str(tmp_path / "site"))
    assert "musl" in message
    assert "instead of Alpine" in message


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain = load_toolchain()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match="Windows is not supported"):
        toolchain.check_platform()


def test_another_python_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain = load_toolchain()
    monkeypatch.setattr(sys.implementation, "name", "pypy")
    with pytest.raises(SystemExit, match=r"needs CPython >= 3.11; this is pypy"):
        toolchain.check_platform()


def test_pip_shows_the_message_and_no_traceback(tree: Path) -> None:
    for arguments in (["wheel", "--no-deps"], ["install", "--no-deps", "--target", "unused", "--editable"]):
        done = run_clean(
            *(sys.executable, "-m", "pip", *arguments, ".", "--no-build-isolation"),
            cwd=tree,
            VELITHON_PROXY_GO="/nowhere/go",
        )
        assert "VELITHON_PROXY_GO=/nowhere/go is not an executable file" in refusal(done, tree)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "is not a file", id="missing"),
        pytest.param(b"#!/bin/sh\n", "is not a 64-bit ELF shared library", id="a script"),
        pytest.param(b"", "is not a 64-bit ELF shared library", id="empty"),
        pytest.param(bytes.fromhex("7f454c46020101000000000000000000 0200 3e00"), "is not a", id="a program"),
        pytest.param(bytes.fromhex("7f454c46020101000000000000000000 0300 f300"), "is not a", id="another machine"),
        pytest.param(bytes.fromhex("7f454c46010101000000000000000000 0300 3e00"), "is not a", id="32 bits"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the examples are ELF files")
def test_a_prebuilt_core_that_cannot_be_loaded_here(
    tree: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    library = tmp_path / "libvelithonproxy.so"
    if content is not None:
        library.write_bytes(content)
    # It is looked at before the bridge is compiled, as everything else.
    assert f"VELITHON_PROXY_CORE_LIBRARY={library} {reason}" in build(tree, VELITHON_PROXY_CORE_LIBRARY=str(library))


def test_the_version_floor_is_that_of_go_mod(tree: Path, tmp_path: Path) -> None:
    go_mod = tree / "go.mod"
    go_mod.write_text(go_mod.read_text("utf-8").replace("\ngo 1.26.0\n", "\ngo 1.99.3\n"), encoding="utf-8")
    go = script(tmp_path / "go", "echo go1.27.1")
    assert "needs Go >= 1.99.3" in build(tree, VELITHON_PROXY_GO=str(go), PATH=os.environ["PATH"])
