#!/bin/sh
# build_inplace.sh VENV: builds the two native files beside the Python sources and installs the project as editable.
#
# The build keeps its intermediate files in build/, so it takes a second or two when little has changed; pip's own
# editable build starts from nothing each time. The installation itself is repeated only when its metadata changes.
set -eu
python=$1/bin/python
"$python" setup.py --quiet build_ext --inplace

stamp=$1/.installed
wanted=$(cat setup.py pyproject.toml python/velithon_proxy/_version.py | cksum)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    core=$(ls "$PWD"/python/velithon_proxy/libvelithonproxy.*)
    PIP_DISABLE_PIP_VERSION_CHECK=1 VELITHON_PROXY_CORE_LIBRARY="$core" "$python" -m pip install --quiet --quiet --no-input \
        --no-build-isolation --no-deps --editable .
    echo "$wanted" >"$stamp"
fi
