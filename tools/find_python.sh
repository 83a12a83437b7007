#!/bin/sh
# Prints the Python that the development environment is made with: $PYTHON, or the first that is new enough.
# A name on PATH is not enough: version managers put commands there that only say which version is not active.
set -eu

usable='import sys; sys.exit(sys.implementation.name != "cpython" or sys.version_info < (3, 11))'
complete='import venv, ensurepip'

for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    "$path" -c "$usable" >/dev/null 2>&1 || continue
    if ! "$path" -c "$complete" >/dev/null 2>&1; then
        incomplete=$path
        continue
    fi
    "$path" -c 'import sys; print(sys.executable)'
    exit 0
done

if [ -n "${incomplete:-}" ]; then
    echo "make: $incomplete lacks the venv module; install it (Debian and Ubuntu: apt install python3-venv)" >&2
elif [ -n "${PYTHON:-}" ]; then
    echo "make: PYTHON=$PYTHON is not CPython >= 3.11; name another one" >&2
else
    echo "make: CPython >= 3.11 is needed and was not found on PATH; install it (Debian and Ubuntu: apt install" \
        "python3 python3-venv python3-dev) or name one: make PYTHON=/path/to/python3" >&2
fi
exit 1
