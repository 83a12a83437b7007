#!/bin/sh
# debug_package.sh PYTHON FOLDER [NAME=VALUE...]: a copy of the package in FOLDER whose core is built with capi/debug.go.
#
# The names are the variables of capi/debug.go: cpuProfile=/tmp/cpu.out writes a CPU profile, collectEvery=1ms runs the
# garbage collector all the time. ASAN=1 in the environment builds the bridge and the core for AddressSanitizer, the
# bridge also for UBSan. A program uses the copy with PYTHONPATH=FOLDER.
set -eu
python=$1
folder=$2
shift 2
cd "$(dirname "$0")/.."
go=${VELITHON_PROXY_GO:-go}

variables=-compressdwarf=false # never empty: a quoted flag must not come first
for assignment in "$@"; do
    variables="$variables -X main.$assignment"
done
rm -rf "$folder/velithon_proxy"
mkdir -p "$folder"
cp -R python/velithon_proxy "$folder/"
sanitize=
if [ -n "${ASAN:-}" ]; then
    sanitize=-asan
    # Go asks the compiler for its version, and takes one that calls itself cc for neither gcc nor clang.
    if [ "${CC:-cc}" = cc ]; then
        case $(cc -v 2>&1) in
        *clang*) export CC=clang ;;
        *) export CC=gcc ;;
        esac
    fi
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    ${CC:-cc} -std=gnu11 -O1 -g -fno-omit-frame-pointer -fPIC -shared -fvisibility=hidden -pthread \
        -fsanitize=address,undefined -fno-sanitize-recover=all -DPy_LIMITED_API=0x030B0000 -Icapi -I"$include" \
        python/velithon_proxy/*.c -o "$folder/velithon_proxy/_bridge.abi3.so"
fi
"$go" build $sanitize -buildmode=c-shared -tags=netgo,osusergo,debug \
    -ldflags="$variables \"-extldflags=-Wl,--version-script=$PWD/capi/exports.map\"" \
    -o "$folder/velithon_proxy/libvelithonproxy.so" ./capi
