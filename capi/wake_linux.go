package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// writeWake is write(2) on a non-blocking descriptor, without telling the scheduler: it cannot block.
func writeWake(fd int, p []byte) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))); errno != 0 {
		return errno
	}
	return nil
}
