#!/bin/sh
# step.sh NAME COMMAND...: runs the command and prints how long it took, so that a slow step of a run is seen.
name=$1
shift
echo "== $name"
start=$(date +%s)
"$@"
code=$?
end=$(date +%s)
if [ $code -eq 0 ]; then
    echo "== $name: ok, $((end - start)) s"
else
    echo "== $name: FAILED with exit code $code after $((end - start)) s" >&2
fi
exit $code
