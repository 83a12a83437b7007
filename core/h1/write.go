package h1

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
	if len(ex.rest) > 0 || ex.Request.Source != nil || !c.plain() {
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
		_, _ = ex.detach()
		return sendStale
	}
	// After an error the connection's goroutine finds the reason in a read, or a response that came before it.
	ex.wrote, ex.writeErr = int64(c.writeN), err
	switch {
	case err != nil:
	case c.writeN < len(out):
		ex.upload(c, out[c.writeN:], nil)
	default:
		ex.sent()
	}
	return sendStarted
}

// sendByGoroutine sends a large body, or over TLS, whose writes cannot be told not to block.
func (ex *Exchange) sendByGoroutine(c *conn) sendResult {
	if c.used && c.stale() || !c.state.CompareAndSwap(connClaimed, connBusy) {
		_, _ = ex.detach()
		return sendStale
	}
	ex.upload(c, *ex.out, ex.rest)
	return sendStarted
}

// stale looks at an idle connection's socket.
func (c *conn) stale() bool {
	pending := false
	err := c.socket.Control(func(fd uintptr) { pending = pendingInput(fd, &c.probe) })
	return pending || err != nil
}
