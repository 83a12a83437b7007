"""The licence texts of everything that is linked into the core library.

The Go modules and Go's own runtime and standard library are distributed inside the wheel in binary form; their
licences (MIT, BSD, Apache) ask that the texts come along.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core_library import architectures, module_flags
from toolchain import ROOT, GoToolchain, refuse

FOLDER_NAME = "_licenses"
_LICENCE_FILE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|PATENTS)([.-].*)?", re.IGNORECASE)


def collect(go: GoToolchain, env: dict[str, str], target: Path) -> None:
    """Fill the folder `target` with one subfolder per module, `<module path>@<version>/LICENSE`, and Go's own."""
    shutil.rmtree(target, ignore_errors=True)
    for name, folder in sorted(_linked_modules(go, env).items()):
        texts = [file for file in sorted(folder.iterdir()) if file.is_file() and _LICENCE_FILE.fullmatch(file.name)]
        if not texts:
            refuse(f"no licence text of the linked module {name} was found in {folder}")
        (target / name).mkdir(parents=True)
        for text in texts:
            shutil.copyfile(text, target / name / text.name)


def accept(folder: Path, target: Path) -> None:
    """Take the licence texts that lie beside a core library built elsewhere; without them the wheel has none."""
    shutil.rmtree(target, ignore_errors=True)
    if folder.is_dir():
        shutil.copytree(folder, target)
    else:
        print(f"warning: no {folder} beside the given core library: this wheel lacks the licences of its Go modules")


def _linked_modules(go: GoToolchain, env: dict[str, str]) -> dict[str, Path]:
    """`module@version` -> the folder with its licence, for all modules that ./capi imports, directly or not."""
    listed = subprocess.run(
        [go.path, "list", *module_flags(), "-deps", "-json=ImportPath,Dir,Standard,Module", "./capi"],
        cwd=ROOT,
        env={**env, "GOARCH": architectures()[0]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    root = subprocess.run([go.path, "env", "GOROOT"], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    if listed.returncode != 0:
        refuse(f"`go list` failed:\n{listed.stderr.strip()}")
    modules: dict[str, Path] = {}
    for package in _stream(listed.stdout):
        module = package.get("Module")
        if package.get("Standard") or module is None or module.get("Main"):
            continue
        # The folder of the module itself: that of the package, up by as many steps as the package lies below it.
        below = package["ImportPath"].removeprefix(module["Path"]).strip("/")
        steps = len(Path(below).parts)
        folder = Path(package["Dir"])
        modules[f"{module['Path']}@{module['Version']}"] = folder.parents[steps - 1] if steps else folder
    # Distributions split Go's sources from its licence; its terms then lie in the system's own documentation.
    go_root = Path(root.stdout.strip())
    if (go_root / "LICENSE").is_file():
        modules[f"go@{'.'.join(map(str, go.version))}"] = go_root
    return modules


def _stream(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that `go list -json` prints one after the other."""
    decoder = json.JSONDecoder()
    position = 0
    while (start := text.find("{", position)) >= 0:
        value, position = decoder.raw_decode(text, start)
        yield value
