//go:build !linux

package h1

import (
	"io"

	"golang.org/x/sys/unix"
)

// noSignal is not needed: Go sets SO_NOSIGPIPE on every socket of these systems.
const noSignal = 0

// readSocket is read(2) with Go's conventions: io.EOF at the end, EINTR retried, EAGAIN passed on.
func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// writeSocket makes one attempt to send p without blocking. A full socket buffer is no error: fewer bytes were sent.
// Go sets SO_NOSIGPIPE on every socket of these systems: a peer that has gone is an error.
func writeSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		case nil:
			return n, nil
		default:
			return 0, err
		}
	}
}

// pendingInput reports whether a read would not block: bytes, the end, or an error are waiting. The byte
// at probe is scratch.
func pendingInput(fd uintptr, probe *[1]byte) bool {
	for {
		_, _, err := unix.Recvfrom(int(fd), probe[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return err != unix.EAGAIN
		}
	}
}
