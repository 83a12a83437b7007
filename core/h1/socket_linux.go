package h1

import "golang.org/x/sys/unix"

// sendFlags: a peer that has gone must be an error, not a SIGPIPE to the process that embeds the core.
const sendFlags = unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
