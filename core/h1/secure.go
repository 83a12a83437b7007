package h1

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// endNoting is the socket under TLS. It reads and writes with the system calls of socket_*.go, which Go's scheduler does
// not take for a wait, and it notes that the socket has ended: TLS reports the end of the socket between two records and a
// close_notify as the same io.EOF, but only the second says that the body before it is complete (RFC 9112 section 9.8).
type endNoting struct {
	net.Conn
	socket syscall.RawConn
	ended  bool
	held   bool // nothing is read from the socket: what TLS has in memory is all there is to be had

	// What the poller's callbacks work on, bound once: a closure a call would allocate. Reading and writing may happen at
	// the same time.
	readable, writable func(fd uintptr) bool
	readInto, writeOut []byte
	readN, writeN      int
	readErr, writeErr  error
}

func newEndNoting(raw net.Conn) (*endNoting, error) {
	socket, err := raw.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &endNoting{Conn: raw, socket: socket}
	c.readable, c.writable = c.onReadable, c.onWritable
	return c, nil
}

// Read implements net.Conn.
func (c *endNoting) Read(p []byte) (int, error) {
	if c.held {
		return 0, errHeld
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.readInto, c.readN, c.readErr = p, 0, nil
	err := c.socket.Read(c.readable)
	c.readInto = nil
	if err == nil {
		err = c.readErr
	}
	c.ended = c.ended || err == io.EOF
	return c.readN, err
}

func (c *endNoting) onReadable(fd uintptr) bool {
	c.readN, c.readErr = readSocket(fd, c.readInto)
	return c.readErr != syscall.EAGAIN
}

// Write implements net.Conn.
func (c *endNoting) Write(p []byte) (int, error) {
	c.writeOut, c.writeN, c.writeErr = p, 0, nil
	err := c.socket.Write(c.writable)
	c.writeOut = nil
	if err == nil {
		err = c.writeErr
	}
	return c.writeN, err
}

func (c *endNoting) onWritable(fd uintptr) bool {
	for c.writeN < len(c.writeOut) {
		n, err := writeSocket(fd, c.writeOut[c.writeN:])
		c.writeN += n
		if err != nil {
			c.writeErr = err
			return true
		}
		if n == 0 {
			return false // the socket is full
		}
	}
	return true
}

// isAlert reports whether the other side has ended TLS with an alert.
func isAlert(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error"
}

// errHeld is what a held socket yields. It is temporary, or TLS would take it for the end of the connection.
var errHeld net.Error = heldError{}

type heldError struct{}

func (heldError) Error() string   { return "nothing is read for now" }
func (heldError) Timeout() bool   { return true }
func (heldError) Temporary() bool { return true }
