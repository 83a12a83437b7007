"""Every other way to build: the source distribution without a network, a prebuilt core, an editable installation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from building import Wheel, build_wheel, copy_tree, run_clean
from test_refusals import folder_with

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = copy_tree(folder / "tree")
    done = run_clean(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    assert done.returncode == 0, done.stdout
    assert not (tree / "vendor").exists(), "a vendor folder in the work tree changes how Go builds there"
    (archive,) = folder.glob("velithon_proxy-*.tar.gz")
    # By the program: extraction by tarfile needs an argument that Python 3.11.3 does not have and 3.12 insists on.
    done = run_clean("tar", "-xzf", archive, cwd=folder)
    assert done.returncode == 0, done.stdout
    return folder / archive.name.removesuffix(".tar.gz")


def test_the_source_distribution_carries_all_that_a_build_needs(unpacked: Path) -> None:
    for name in ("go.mod", "go.sum", "setup.py", "capi/abi.h", "capi/exports.map", "vendor/modules.txt", "LICENSE"):
        assert (unpacked / name).is_file(), name
    assert list(unpacked.glob("core/**/*.go"))
    assert list(unpacked.glob("python/velithon_proxy/*.c"))
    assert not list(unpacked.rglob("*.so"))
    assert (unpacked / "vendor/github.com/valyala/fasthttp/LICENSE").is_file()


def test_the_source_distribution_builds_without_a_network_and_a_module_cache(
    unpacked: Path, tmp_path: Path, wheel: Wheel
) -> None:
    built = build_wheel(
        unpacked,
        tmp_path,
        "--no-build-isolation",
        GOPROXY="off",
        GOFLAGS="-mod=vendor",
        GOTOOLCHAIN="local",
        GOMODCACHE=str(tmp_path / "no modules"),
    )
    assert built.names == wheel.names


def test_a_home_that_cannot_be_written_is_replaced_for_the_build_only(tree: Path, tmp_path: Path) -> None:
    """Build sandboxes have such a home. That the go command works with the folders given here is its own business."""
    code = (
        "import sys; sys.path.insert(0, 'tools')\n"
        "import os, core_library, toolchain\n"
        "with core_library.go_environment(toolchain.find_go()) as env:\n"
        "    print(env['GOCACHE'], env['GOMODCACHE'], env['GOFLAGS'], env['CGO_CFLAGS'], sep='\\n')\n"
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = run_clean(
        *(sys.executable, "-c", code),
        cwd=tree,
        HOME="/dev/null/home",
        XDG_CACHE_HOME="",
        GOPATH="",
        GOCACHE="",
        GOMODCACHE="",
        GOFLAGS="-v",
        CGO_CFLAGS="-O1",
        TMPDIR=str(temporary),
    )
    assert done.returncode == 0, done.stdout
    cache, modules, *flags = done.stdout.splitlines()
    assert Path(cache).parent == Path(modules).parent
    assert Path(cache).is_relative_to(temporary)
    assert flags == ["-v", "-O1"], "what the user set stays"
    assert list(temporary.iterdir()) == [], "nothing is left behind"


def test_a_prebuilt_core_needs_no_go(wheel: Wheel, tree: Path, tmp_path: Path) -> None:
    built = build_wheel(
        tree,
        tmp_path,
        "--no-build-isolation",
        VELITHON_PROXY_CORE_LIBRARY=str(wheel.core),
        PATH=folder_with(tmp_path / "bin", "gcc", "cc", "as", "ld"),
    )
    assert built.core.read_bytes() == wheel.core.read_bytes()
    assert built.names == wheel.names, "the licences lie beside the core and come along"


def test_an_editable_installation_puts_the_native_files_beside_the_sources(
    wheel: Wheel, tree: Path, tmp_path: Path
) -> None:
    done = run_clean(
        *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"),
        *("--target", tmp_path / "site", "--editable", tree),
        cwd=tmp_path,
        VELITHON_PROXY_CORE_LIBRARY=str(wheel.core),
    )
    assert done.returncode == 0, done.stdout
    package = tree / "python" / "velithon_proxy"
    assert (package / wheel.bridge.name).is_file()
    assert (package / wheel.core.name).is_file()
    assert list(package.glob("_licenses/go@*/LICENSE"))


def test_a_second_build_compiles_nothing_anew(wheel: Wheel, tree: Path) -> None:
    command = (sys.executable, "setup.py", "build_ext", "--inplace")
    environment = {"VELITHON_PROXY_CORE_LIBRARY": str(wheel.core)}
    first = run_clean(*command, cwd=tree, **environment)
    assert first.returncode == 0, first.stdout
    assert "_bridge.o" in first.stdout
    again = run_clean(*command, cwd=tree, **environment)
    assert again.returncode == 0, again.stdout
    assert "_bridge.o" not in again.stdout
    (tree / "capi" / "abi.h").touch()
    assert "_bridge.o" in run_clean(*command, cwd=tree, **environment).stdout
