//go:build !linux

package main

import "golang.org/x/sys/unix"

func writeWake(fd int, p []byte) error {
	_, err := unix.Write(fd, p)
	return err
}
