//go:build !linux

package h1

import "golang.org/x/sys/unix"

// sendFlags: Go sets SO_NOSIGPIPE on every socket of these systems.
const sendFlags = unix.MSG_DONTWAIT
