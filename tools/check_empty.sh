#!/bin/sh
# check_empty.sh WHAT COMMAND...: fails when the command prints anything; each line is something that is WHAT.
what=$1
shift
found=$("$@") || exit $?
[ -z "$found" ] && exit 0
echo "$found" | sed "s/\$/: $what/" >&2
exit 1
