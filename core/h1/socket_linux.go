package h1

import (
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls below cannot block: the sockets are non-blocking, and the flags say so once more. They are made
// without telling Go's scheduler, which would otherwise prepare for a wait each time, and wake its monitor thread
// whenever a request ends an idle moment: two thread switches for every request of a quiet gateway.

// noSignal makes a write to a peer that has gone an error, not a SIGPIPE to the process that embeds the core.
const noSignal = unix.MSG_NOSIGNAL

// readSocket is read(2) with Go's conventions: io.EOF at the end, EINTR retried, EAGAIN passed on.
func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0 && n == 0:
			return 0, io.EOF
		case errno == 0:
			return int(n), nil
		case errno != unix.EINTR:
			return 0, errno
		}
	}
}

// writeSocket makes one attempt to send p. A full socket buffer is no error: fewer bytes were sent. A peer that has
// gone is an error, not a SIGPIPE to the process that embeds the core.
func writeSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// pendingInput reports whether a read would not block: bytes, the end, or an error are waiting. The byte
// at probe is scratch.
func pendingInput(fd uintptr, probe *[1]byte) bool {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(probe)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}
