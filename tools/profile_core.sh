#!/bin/sh
# profile_core.sh PYTHON [SCENARIO]: the functions of the core in which five seconds of a scenario of benchmarks/scenarios.py
# are spent, from a core that is built with capi/debug.go.
set -eu
python=$1
scenario=${2:-get-100b-c64}
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sh tools/debug_package.sh "$python" "$scratch" cpuProfile="$scratch/cpu.out" profileFrom=1s profileFor=5s
PYTHONPATH="$scratch" "$python" - "$scenario" <<'PY'
import sys

sys.path.insert(0, "benchmarks")
import client_matrix
from programs import Upstream
from scenarios import SCENARIOS

with Upstream() as upstream:
    worker, reason = client_matrix.start_cell("velithon-proxy", SCENARIOS[sys.argv[1]], upstream)
    if worker is None:
        raise SystemExit(reason)
    window = worker.ask(7.0)
    print(f"{sys.argv[1]}: {window['cpu_us']:.1f} us of CPU for each of {window['requests']:,} requests")
    worker.close()
PY
"${VELITHON_PROXY_GO:-go}" tool pprof -top -nodecount=40 "$scratch/velithon_proxy/libvelithonproxy.so" "$scratch/cpu.out" 2>/dev/null
