package h1

import (
	"time"

	"golang.org/x/sys/unix"
)

// upload sends what does not go out in one system call, on a goroutine of its own: a large body, one that comes from a
// source, or anything over TLS, whose writes cannot be told not to block.
type upload struct {
	ex       *Exchange
	conn     *conn
	written  int64     // bytes of the request that went out
	bodySize int64     // bytes that the source has yielded
	line     []byte    // the size line of a chunk
	parts    [3][]byte // what is being written
	err      error     // of the system call
	writable func(fd uintptr) bool
}

// begin leaves the rest of the request to a goroutine.
func (ex *Exchange) upload(c *conn, head, body []byte) {
	ex.uploading = true
	ex.asking.Store(false)
	ex.blocked.Store(false)
	ex.uploaded.Store(false)
	ex.stopped.Store(false)
	ex.uploader.Add(1)
	go ex.writeRest(c, head, body)
}

// writeRest writes head and body, or what the source yields, waiting for room as long as it takes.
func (ex *Exchange) writeRest(c *conn, head, body []byte) {
	u := upload{ex: ex, conn: c, written: ex.wrote}
	u.writable = u.onWritable
	source := ex.Request.Source
	var err error
	defer func() {
		if cause := recover(); cause != nil {
			err = panicError(cause)
		}
		ex.waits.end(waitSend)
		switch failure, own := err.(*Error); {
		case err == nil:
			u.finished()
		case own && !ex.uploaded.Load():
			if failure.Kind != KindCancelled || !ex.stopped.Load() {
				ex.breakOff(c, failure)
			}
		case own && failure.Kind != KindCancelled:
			ex.breakOff(c, failure) // the source goes on after the end it had promised
		case own:
			err = nil
		default:
			c.expectEnd(ex)
		}
		ex.wrote, ex.writeErr = u.written, err
		ex.uploaded.Store(true)
		ex.uploader.Done()
	}()
	if err = u.write(head, body, nil); err == nil && source != nil {
		defer source.Close()
		err = u.drain(source)
	}
}

// finished notes that the whole request is out.
func (u *upload) finished() {
	if !u.ex.uploaded.Swap(true) {
		u.ex.sent()
	}
}

// write sends the parts one behind the other.
func (u *upload) write(parts ...[]byte) error {
	if u.ex.Watched {
		u.ex.waits.begin(waitSend)
		defer u.ex.waits.end(waitSend)
	}
	if !u.conn.plain() {
		return u.encrypt(parts)
	}
	u.parts, u.err = [3][]byte{}, nil
	copy(u.parts[:], parts)
	if err := u.conn.socket.Write(u.writable); err != nil {
		return err
	}
	return u.err
}

// encrypt sends the parts over TLS, small ones together: each write becomes a record.
func (u *upload) encrypt(parts [][]byte) error {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if size <= smallBody {
		whole := buffers.Get().(*[]byte)
		defer buffers.Put(whole)
		joined := (*whole)[:0]
		for _, part := range parts {
			joined = append(joined, part...)
		}
		*whole = joined
		parts = [][]byte{joined}
	}
	for _, part := range parts {
		for len(part) > 0 {
			n, err := u.conn.Conn.Write(part[:min(len(part), firstPiece)])
			if u.progress(n); err != nil {
				return err
			}
			part = part[n:]
		}
	}
	return nil
}

// firstPiece is how much of a large request goes out first, by itself. Sending everything with one system call costs twice
// the time for 1 MB on loopback (210 us against 125, and as much with the head alone first): docs/performance.md.
const firstPiece = 64 << 10

// onWritable makes attempts to send the parts until they are out or the socket is full.
func (u *upload) onWritable(fd uintptr) bool {
	for {
		var pieces [3][]byte
		count := 0
		for _, part := range u.parts {
			if len(part) == 0 {
				continue
			}
			if count > 0 && len(part) > firstPiece {
				pieces[count] = part[:firstPiece]
				count++
				break
			}
			pieces[count] = part
			count++
		}
		if count == 0 {
			return true
		}
		n, err := unix.SendmsgBuffers(int(fd), pieces[:count], nil, nil, noSignal)
		switch err {
		case nil:
			u.ex.blocked.Store(false)
			u.progress(n)
			u.advance(n)
		case unix.EAGAIN:
			u.ex.blocked.Store(true)
			return false
		case unix.EINTR:
		default:
			u.err = err
			return true
		}
	}
}

// advance drops n bytes from the front of the parts.
func (u *upload) advance(n int) {
	for i := range u.parts {
		taken := min(n, len(u.parts[i]))
		u.parts[i] = u.parts[i][taken:]
		n -= taken
	}
}

// progress notes that the upstream took n bytes.
func (u *upload) progress(n int) {
	u.written += int64(n)
	if u.ex.Watched {
		u.ex.waits.end(waitSend)
		u.ex.waits.begin(waitSend)
	}
}

// breakOff ends the exchange with a fault of the request's own: the upstream must not take what it has for the whole.
func (ex *Exchange) breakOff(c *conn, failure *Error) {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.conn == c && ex.cause == nil {
		ex.cause = failure
		c.interrupt()
		ex.Receiver.Cancelled()
	}
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
// writer that waits for the upstream, or for its source, is stopped; one that is merely slower than a complete response
// is given a moment, because the connection is lost otherwise.
func (ex *Exchange) stopUpload(c *conn, complete bool) bool {
	if !ex.attempted() {
		return ex.writeErr == nil
	}
	for wait := 20 * time.Microsecond; complete && !ex.uploaded.Load() && !ex.blocked.Load() && wait < 10*time.Millisecond; wait *= 2 {
		time.Sleep(wait)
	}
	sent := ex.uploaded.Load()
	if !sent {
		c.interrupt()
	}
	if source := ex.Request.Source; source != nil {
		ex.stopped.Store(true)
		source.Stop()
	}
	ex.uploader.Wait()
	return sent && ex.writeErr == nil
}
