#!/bin/sh
# setup_venv.sh FOLDER EXTRAS: brings the virtual environment FOLDER up to date with pyproject.toml and
# tools/constraints.txt, with the dependencies of the given extras but without the project itself.
#
# The stamp holds what the environment was made from and is written last, so an interrupted set-up, a removed
# interpreter or an edited list is noticed and mended, and a repeated run costs milliseconds.
set -eu

folder=$1
extras=$2
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

stamp=$folder/.ready
wanted=$(cat pyproject.toml tools/constraints.txt tools/setup_venv.sh | cksum; echo "$extras"; echo "$root")
if [ -f "$stamp" ] && [ "$(tail -n +2 "$stamp")" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    # Another Python asked for by name replaces the one the environment was made with.
    if [ -z "${PYTHON:-}" ] || [ "$(sh tools/find_python.sh)" = "$(head -n 1 "$stamp")" ]; then
        exit 0
    fi
fi

python=$(sh tools/find_python.sh)
echo "setting up $folder with $python"
if ! { [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$python" ] && "$folder/bin/python" -m pip --version; } \
    >/dev/null 2>&1; then
    "$python" -m venv --clear "$folder"
fi
rm -f "$stamp"

# The names come from pyproject.toml, the versions from the constraints: pip cannot install extras alone.
"$folder/bin/python" - "$extras" >"$folder/requirements.txt" <<'PY'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    document = tomllib.load(file)
names = document["build-system"]["requires"] + document["project"]["dependencies"]
for extra in sys.argv[1].split(","):
    names += document["project"]["optional-dependencies"][extra]
print("\n".join(sorted(set(names))))
PY
PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/bin/python" -m pip install --quiet --quiet --no-input \
    --constraint tools/constraints.txt --requirement "$folder/requirements.txt"
printf '%s\n%s\n' "$python" "$wanted" >"$stamp"
