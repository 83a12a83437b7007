#!/bin/sh
# check_generated.sh GO: generates the code in a copy of the Go sources and compares it with what is there.
set -eu
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R go.mod go.sum core "$copy"
find "$copy" -name '*_easyjson.go' -exec rm {} +
(cd "$copy" && "$1" generate ./core/...)
stale=0
for file in $(cd "$copy" && find core -name '*_easyjson.go') $(find core -name '*_easyjson.go'); do
    if ! cmp -s "$file" "$copy/$file"; then
        echo "$file is not what its sources generate; run make generate" >&2
        stale=1
    fi
done
exit $stale
