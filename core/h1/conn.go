package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Sizes of a connection's read buffer. It is held while the connection is parked, so it starts small; it grows to hold
// a head or a body that is read as a whole, and shrinks back when the connection goes idle.
const (
	bufferStart = 4 << 10
	bufferKeep  = 16 << 10
)

// The states of a connection. The goroutine of the connection and the one that wants to send on it settle who was
// first by compare-and-swap.
const (
	connIdle    uint32 = iota // parked: readable means FIN or an unsolicited byte
	connClaimed               // leased to an exchange that has not sent anything yet
	connBusy                  // the request is being sent: what arrives is the response
	connDead                  // ended; whoever holds the lease returns it
)

// conn is a connection to the upstream. It is handed to fasthttp's pool unconnected, so that taking one from the pool
// never dials: the exchange that gets it connects it.
type conn struct {
	net.Conn          // the connection to read and write: TLS or the raw one
	raw      net.Conn // the socket itself; nil until connected
	socket   syscall.RawConn
	state    atomic.Uint32
	ex       *Exchange // the exchange; written by the holder of the claim
	lease    lease
	used     bool          // has carried a request
	idle     time.Duration // since when it has been idle: monotonic, after epoch; half the price of a time.Time
	resolved *addresses    // the answer that its address was taken from; nil without a name
	expires  time.Duration // when the upstream said it would close it, less a second; zero if it did not

	// What onReadable and onWritable, bound once, are to do: a closure a call would allocate.
	readable, writable func(fd uintptr) bool
	mode               readMode
	readInto, writeOut []byte
	readN, writeN      int
	look               bool // the next read does not wait
	readErr, writeErr  error
	probe              [1]byte

	buf  []byte // buf[r:w] has been read from the socket and not yet been used
	r, w int

	parser headParser
	head   Head
	fields Fields
	body   Body
}

// readMode is what the next call of onReadable does.
type readMode uint8

const (
	modeRead readMode = iota // read into readInto
	modePark                 // the poller is armed: give the connection back, then watch
	modeIdle                 // watch for the response to a request that is yet to come, or for the end
)

func newConn() *conn {
	c := &conn{buf: make([]byte, bufferStart)}
	c.readable, c.writable = c.onReadable, c.onWritable
	return c
}

// bind ties the connection to its socket. Called once, by the exchange that dialled.
func (c *conn) bind(transport, raw net.Conn) *Error {
	socket, err := raw.(syscall.Conn).SyscallConn()
	if err != nil {
		return &Error{Kind: KindConnect, Phase: PhaseConnect, Message: "the socket cannot be used", Err: err}
	}
	c.Conn, c.raw, c.socket = transport, raw, socket
	return nil
}

// plain reports whether bytes go to the socket as they are, without TLS.
func (c *conn) plain() bool { return c.Conn == c.raw }

// Close implements net.Conn for fasthttp's pool: it asks the goroutine of the connection, which owns the socket, to
// close it. Closing it here would wait for that goroutine.
func (c *conn) Close() error {
	if c.raw != nil {
		c.state.Store(connDead)
		c.interrupt()
	}
	return nil
}

// interrupt makes every read and write of the connection return at once and never waits for them.
func (c *conn) interrupt() {
	_ = c.raw.SetDeadline(time.Unix(1, 0))
}

// serve is the goroutine of the connection. It begins with the exchange that connected it and ends with the socket
// closed. The raw socket: closing TLS would wait for room to send close_notify.
func (c *conn) serve() {
	defer func() {
		_ = c.raw.Close()
		if cause := recover(); cause != nil {
			c.state.Store(connDead)
			if ex := c.ex; ex != nil {
				ex.err = panicError(cause)
				ex.endOn(c)
			} else { // the exchange was told of its end before
				Panics.Add(1)
			}
		}
	}()
	for {
		ex := c.ex
		transport := ex.transport
		if !ex.receive(c) {
			c.state.Store(connDead)
			_ = c.raw.Close()
			c.ex = nil
			ex.endOn(c)
			return
		}
		if !c.park() {
			transport.ended()
			return
		}
	}
}

// park gives the connection back, finishes its exchange and waits for the response to the next one. It returns false
// if the connection ended while it was idle.
func (c *conn) park() bool {
	c.r, c.w = 0, 0
	c.mode, c.readN, c.readErr = modePark, 0, nil
	err := c.socket.Read(c.readable)
	if c.mode == modePark {
		// The poller refused before it asked: the socket is of no use, the exchange is complete all the same.
		ex := c.ex
		c.state.Store(connDead)
		c.ex = nil
		ex.endOn(c)
		return false
	}
	if c.state.Load() == connBusy {
		if err != nil {
			c.readErr = err
		}
		c.w = c.readN
		c.readN = 0
		return true // receive finds the bytes or the error
	}
	// A claim that has not sent anything loses the connection and takes another one.
	for state := c.state.Load(); state != connDead; state = c.state.Load() {
		if state == connBusy {
			c.readErr = err
			return true
		}
		if c.state.CompareAndSwap(state, connDead) {
			break
		}
	}
	return false
}

// giveBack returns the connection to the pool and tells the receiver of the finished exchange.
func (c *conn) giveBack() {
	ex := c.ex
	if cap(c.buf) > bufferKeep {
		// The receiver may still look at the old buffer: it lives until finish has returned.
		c.buf = make([]byte, bufferStart)
	}
	c.used, c.ex, c.idle, c.expires = true, nil, time.Since(epoch), 0
	if c.head.idleTimeout > 0 {
		c.expires = c.idle + time.Duration(c.head.idleTimeout-1)*time.Second
	}
	ex.transport.release(c)
	ex.finish()
}

// onReadable runs inside the poller's wait: false means wait (again).
//
// Giving the connection back happens here, after the poller was reset and before it is waited for: a response that
// comes faster than this goroutine goes to sleep is not missed, and no read has to fail first.
func (c *conn) onReadable(fd uintptr) bool {
	switch c.mode {
	case modePark:
		c.mode = modeIdle
		c.giveBack()
		return false
	case modeIdle:
		for state := c.state.Load(); state != connBusy; state = c.state.Load() {
			// Look without reading: bytes that were taken here could be mistaken for the response to a request
			// that is sent in the same moment.
			if state != connDead && !pendingInput(fd, &c.probe) {
				return false
			}
			// FIN or bytes without a request end the connection (RFC 9112 section 9.2).
			if c.state.CompareAndSwap(state, connDead) {
				return true
			}
		}
		c.mode = modeRead
		if !c.plain() {
			return true // TLS reads by itself
		}
		c.readInto = c.buf
	}
	c.readN, c.readErr = readSocket(fd, c.readInto)
	return c.look || c.readErr != syscall.EAGAIN
}

// onWritable makes one attempt to send writeOut on a claimed connection, which becomes busy with it. It reports
// errStale if the connection ended while it was idle.
func (c *conn) onWritable(fd uintptr) bool {
	if pendingInput(fd, &c.probe) || !c.state.CompareAndSwap(connClaimed, connBusy) {
		c.writeErr = errStale
		return true
	}
	c.writeN, c.writeErr = writeSocket(fd, c.writeOut)
	return true
}

var errStale = errors.New("the connection ended while it was idle")

// receiveInto reads once from the connection.
func (c *conn) receiveInto(p []byte) (int, error) {
	if c.readErr != nil {
		return 0, c.readErr
	}
	if ex := c.ex; ex.Watched && ex.responded && !c.look {
		ex.waits.begin(waitBody)
		defer ex.waits.end(waitBody)
	}
	if !c.plain() {
		n, err := c.Conn.Read(p)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	c.mode, c.readInto = modeRead, p
	if err := c.socket.Read(c.readable); err != nil {
		return 0, err
	}
	return c.readN, c.readErr
}

// readNow reads what the socket has into p, without waiting. Zero bytes may mean anything: the next read will tell.
func (c *conn) readNow(p []byte) int {
	if !c.plain() {
		return 0
	}
	c.look = true
	n, err := c.receiveInto(p)
	c.look = false
	if err == syscall.EAGAIN {
		c.readErr = nil
	}
	return n
}

// secured is the socket under TLS; nil for a plain connection.
func (c *conn) secured() *endNoting {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		noting, _ := secure.NetConn().(*endNoting)
		return noting
	}
	return nil
}

// cutOff reports whether the end of the connection came without the close_notify of TLS.
func (c *conn) cutOff() bool {
	noting := c.secured()
	return noting != nil && noting.ended
}

// leftover reports whether the upstream sent more than its response. TLS may hold decrypted bytes that neither the
// buffer nor the socket shows.
func (c *conn) leftover() bool {
	if c.buffered() > 0 {
		return true
	}
	noting := c.secured()
	if noting == nil {
		return false // park sees what is in the socket
	}
	noting.held = true
	n, err := c.Conn.Read(c.buf)
	noting.held = false
	return n > 0 || !errors.Is(err, errHeld)
}

// pending are the bytes read and not yet used.
func (c *conn) pending() []byte { return c.buf[c.r:c.w] }
func (c *conn) buffered() int   { return c.w - c.r }

// take uses n pending bytes. They stay valid until the next fill.
func (c *conn) take(n int) []byte {
	data := c.buf[c.r : c.r+n]
	c.r += n
	return data
}

// fill reads more bytes behind the pending ones and makes room for want pending bytes in all.
func (c *conn) fill(want int) error {
	if c.r > 0 && (c.r == c.w || c.r+want > len(c.buf)) {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if want > len(c.buf) || c.w == len(c.buf) {
		grown := make([]byte, max(want, 2*len(c.buf)))
		c.w = copy(grown, c.buf[c.r:c.w])
		c.r = 0
		c.buf = grown
	}
	n, err := c.receiveInto(c.buf[c.w:])
	c.w += n
	return err
}

// readSome reads into p: pending bytes first, else straight from the socket.
func (c *conn) readSome(p []byte) (int, error) {
	if c.buffered() > 0 {
		n := copy(p, c.pending())
		c.r += n
		return n, nil
	}
	if len(p) < bufferStart/2 {
		// Small pieces (the chunks of a chunked body) are cheaper through the buffer.
		if err := c.fill(1); err != nil {
			return 0, err
		}
		return c.readSome(p)
	}
	return c.receiveInto(p)
}

// readError turns what a read returned into the error of the exchange.
func (c *conn) readError(err error, phase Phase) *Error {
	var failure *Error
	if errors.As(err, &failure) {
		return failure
	}
	e := &Error{Kind: KindClosed, Phase: phase, Err: err}
	switch {
	case errors.Is(err, io.EOF):
		e.Message, e.Err = "the upstream closed the connection before the end of the body", nil
		if phase == PhaseHead {
			e.Message = "the upstream closed the connection before a response"
		}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		e.Message, e.Err = "the connection was closed", nil
	case isAlert(err) && phase == PhaseHead:
		// In TLS 1.3 the handshake of the client has ended before the upstream has looked at its certificate.
		e.Kind, e.Message = KindTLS, "the upstream refused the TLS session"
	default:
		e.Message, e.Err = "the upstream broke the connection off", errors.Unwrap(err)
		if e.Err == nil {
			e.Err = err
		}
	}
	return e
}
