#!/bin/sh
# harden.sh PYTHON BENCH_PYTHON GOVULNCHECK: the package under conditions that a machine can get into, one line each.
#
#   known holes     govulncheck and pip-audit, where their data can be reached
#   address         bridge and core together under AddressSanitizer, the bridge under UBSan, with real requests
#   collector       Go's collector every millisecond, cgo's pointer checks on: what Go must not move or free shows
#   descriptors     a gateway with 256 of them under load of 200 clients
#   memory          a gateway with 256 MB of data, under the same
set -u
python=$1
bench_python=$2
govulncheck=$3
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0
# What exercises the border: bodies of all sizes, streams both ways, cancellation, failures, balancing.
border="tests/integration/test_client_requests.py tests/integration/test_client_responses.py
    tests/integration/test_client_failures.py tests/integration/test_client_life.py
    tests/integration/test_stream_responses.py tests/integration/test_stream_uploads.py
    tests/integration/test_balancer_requests.py tests/integration/test_fast_path_requests.py
    tests/integration/test_fast_path_responses.py tests/integration/test_fast_path_life.py"

verdict() { # NAME STATUS LOG
    if [ "$2" -eq 0 ]; then
        echo "PASS  $1: $(tail -n 1 "$3")"
    else
        echo "FAIL  $1"
        tail -n 40 "$3"
        status=1
    fi
}

"$govulncheck" ./core/... ./capi/... >"$scratch/log" 2>&1
code=$?
if grep -q "fetching vulnerabilities" "$scratch/log"; then
    echo "SKIP  govulncheck: its data cannot be reached from here"
else
    verdict govulncheck $code "$scratch/log"
fi

"$python" -m pip freeze --exclude-editable >"$scratch/requirements"
"$bench_python" -m pip_audit --no-deps --disable-pip --requirement "$scratch/requirements" >"$scratch/log" 2>&1
code=$?
if [ $code -ne 0 ] && ! grep -q "Fix Versions" "$scratch/log"; then
    echo "SKIP  pip-audit: its data cannot be reached from here"
elif grep -q "could not be audited" "$scratch/log"; then
    echo "SKIP  pip-audit: $(grep -c 'could not be audited' "$scratch/log") packages have no data here"
else
    verdict pip-audit $code "$scratch/log"
fi

runtime=$(${CC:-cc} -print-file-name=libasan.so)
if [ -f "$runtime" ] && ASAN=1 sh tools/debug_package.sh "$python" "$scratch/address" >"$scratch/log" 2>&1; then
    # Python's own allocator hides blocks from the sanitizer; leaks of the interpreter are not ours to report.
    LD_PRELOAD="$(readlink -f "$runtime")" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH="$scratch/address" \
        "$python" -m pytest -q -p no:cacheprovider $border >"$scratch/log" 2>&1
    verdict "address and undefined-behaviour sanitizers" $? "$scratch/log"
else
    echo "SKIP  sanitizers: $(tail -n 1 "$scratch/log" 2>/dev/null)"
fi

if GOEXPERIMENT=cgocheck2 sh tools/debug_package.sh "$python" "$scratch/collector" collectEvery=1ms >"$scratch/log" 2>&1; then
    GODEBUG=cgocheck=1 PYTHONPATH="$scratch/collector" "$python" -m pytest -q -p no:cacheprovider $border \
        >"$scratch/log" 2>&1
    verdict "collector every millisecond, pointers checked" $? "$scratch/log"
else
    echo "SKIP  collector: $(tail -n 1 "$scratch/log")"
fi

for limit in "descriptors --nofile=256:256" "memory --data=268435456"; do
    name=${limit%% *}
    for server in RSGI uvicorn; do
        SERVER_LIMIT="${limit#* }" "$bench_python" tests/trials T1 --server "$server" >"$scratch/log" 2>&1
        code=$?
        grep -m 1 '^T1' "$scratch/log" >"$scratch/line" || cp "$scratch/log" "$scratch/line"
        verdict "$name, $server (${limit#* })" $code "$scratch/line"
    done
done
exit $status
