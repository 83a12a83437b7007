package h1

import (
	"time"

	"golang.org/x/sys/unix"
)

// How sendOn ended.
type sendResult uint8

const (
	sendStarted   sendResult = iota // the connection's goroutine has the exchange now
	sendStale                       // the connection had ended; nothing was sent
	sendCancelled                   // the exchange was cancelled before; nothing was sent
)

// sendOn sends the request on a claimed connection. It does not block: what the socket does not take at once is left
// to a goroutine.
func (ex *Exchange) sendOn(c *conn) sendResult {
	c.ex, ex.reused = ex, c.used
	if !ex.attach(c) {
		c.ex = nil
		return sendCancelled
	}
	// Whoever ends the exchange passes through sending: by then this attempt is over.
	ex.sending.Lock()
	defer ex.sending.Unlock()
	ex.uploading = false
	if len(ex.rest) > 0 || !c.plain() {
		return ex.sendByGoroutine(c)
	}
	out := *ex.out
	c.writeOut, c.writeN, c.writeErr = out, 0, nil
	err := c.socket.Write(c.writable)
	c.writeOut = nil
	if err == nil {
		err = c.writeErr
	} else if !c.state.CompareAndSwap(connClaimed, connBusy) {
		err = errStale // closed before onWritable was called
	}
	if err == errStale {
		_ = ex.detach()
		return sendStale
	}
	// After an error the connection's goroutine finds the reason in a read, or a response that came before it.
	ex.wrote, ex.writeErr = c.writeN, err
	if err == nil && c.writeN < len(out) {
		ex.upload(c, out[c.writeN:], nil)
	}
	return sendStarted
}

// sendByGoroutine sends a large body, or over TLS, whose writes cannot be told not to block.
func (ex *Exchange) sendByGoroutine(c *conn) sendResult {
	if c.used && c.stale() || !c.state.CompareAndSwap(connClaimed, connBusy) {
		_ = ex.detach()
		return sendStale
	}
	ex.upload(c, *ex.out, ex.rest)
	return sendStarted
}

// upload leaves the rest of the request to a goroutine.
func (ex *Exchange) upload(c *conn, head, body []byte) {
	ex.uploading = true
	ex.blocked.Store(false)
	ex.uploaded.Store(false)
	ex.uploader.Add(1)
	go ex.writeRest(c, head, body)
}

// stale looks at an idle connection's socket.
func (c *conn) stale() bool {
	pending := false
	err := c.socket.Control(func(fd uintptr) { pending = pendingInput(fd, &c.probe) })
	return pending || err != nil
}

// writeRest writes head and body, waiting for room as long as it takes.
func (ex *Exchange) writeRest(c *conn, head, body []byte) {
	written, err := ex.wrote, error(nil)
	defer func() {
		if cause := recover(); cause != nil {
			err = panicError(cause)
		}
		if err != nil {
			c.expectEnd(ex)
		}
		ex.wrote, ex.writeErr = written, err
		ex.uploaded.Store(true)
		ex.uploader.Done()
	}()
	if !c.plain() {
		for _, part := range [2][]byte{head, body} {
			n, failure := c.Conn.Write(part)
			if written += n; failure != nil {
				err = failure
				return
			}
		}
		return
	}
	var failure error
	err = c.socket.Write(func(fd uintptr) bool {
		for len(head)+len(body) > 0 {
			n, err := writePiece(int(fd), head, body)
			switch err {
			case nil:
				ex.blocked.Store(false)
				written += n
				taken := min(n, len(head))
				head, body = head[taken:], body[n-taken:]
			case unix.EAGAIN:
				ex.blocked.Store(true)
				return false
			case unix.EINTR:
			default:
				failure = err
				return true
			}
		}
		return true
	})
	if err == nil {
		err = failure
	}
}

// firstPiece is how much of a large request goes out first, by itself. Sending everything with one system call costs twice
// the time for 1 MB on loopback (210 us against 125, and as much with the head alone first): docs/performance.md.
const firstPiece = 64 << 10

// writePiece makes one attempt to send the rest of a request.
func writePiece(fd int, head, body []byte) (int, error) {
	switch {
	case len(body) == 0:
		return unix.Write(fd, head)
	case len(head) == 0:
		return unix.Write(fd, body)
	}
	return unix.Writev(fd, [][]byte{head, body[:min(len(body), firstPiece)]})
}

// expectEnd bounds the wait for a response after the request could not be sent: one that the upstream sent before it
// closed is still read, one that will never come is not waited for.
func (c *conn) expectEnd(ex *Exchange) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.conn == c && ex.cause == nil {
		_ = c.raw.SetReadDeadline(time.Now().Add(time.Second))
	}
}

// attempted waits for an attempt to send that is on its way out and reports whether it left the rest to a goroutine.
func (ex *Exchange) attempted() (uploading bool) {
	ex.sending.Lock()
	defer ex.sending.Unlock()
	return ex.uploading
}

// stopUpload ends the writing side once the response has ended and reports whether the whole request was sent. A
// writer that waits for the upstream to take more is stopped; one that is merely slower than a complete response is
// given a moment, because the connection is lost otherwise.
func (ex *Exchange) stopUpload(c *conn, complete bool) bool {
	if ex.attempted() {
		for wait := 20 * time.Microsecond; complete && !ex.uploaded.Load() && !ex.blocked.Load() && wait < 10*time.Millisecond; wait *= 2 {
			time.Sleep(wait)
		}
		if !ex.uploaded.Load() {
			c.interrupt()
			ex.uploader.Wait()
			return false
		}
		ex.uploader.Wait()
	}
	return ex.writeErr == nil
}
