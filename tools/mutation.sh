#!/bin/sh
# mutation.sh GREMLINS [PACKAGE...]: change the code of a package in small ways, one at a time, and see that its own tests notice:
# at least 90 of 100 changes. Those that live are listed. Of core/h1 only the files that read and write heads are changed.
set -eu
gremlins=$1
shift
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- core/balance core/breaker core/retry core/h1
status=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for package in "$@"; do
    set -- --workers 2 --timeout-coefficient 15 --threshold-efficacy 90
    [ "$package" != core/h1 ] || set -- "$@" --exclude-files '(again|body|conn|dial|errors|exchange|idle|race|resolve|secure|socket_[a-z]*|source|transport|upload|waits|write)\.go$'
    echo "== $package"
    "$gremlins" unleash "$@" "./$package" >"$log" 2>&1 || status=1
    grep -E '^ *(LIVED|TIMED OUT)|^Killed|^Test efficacy|ERROR' "$log" || cat "$log"
done
exit $status
