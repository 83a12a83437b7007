#!/bin/sh
# lint_c.sh VENV FLAGS FILE...: compiles each C file as an installation does, and each header by itself, with the
# warnings as errors and nothing written. Optimisation is on: some warnings come from the flow analysis alone.
set -eu
include=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
flags=$2
shift 2
for file in "$@"; do
    # shellcheck disable=SC2086  # CC and the flags are lists of words
    case $file in
    *.h) ${CC:-cc} $flags -I"$include" -x c -fsyntax-only "$file" ;;
    *) ${CC:-cc} $flags -I"$include" -c -o /dev/null "$file" ;;
    esac
done
echo "$# files"
