package h1

import (
	"bytes"
	"io"
)

// Limits of what may surround the data of a chunked body.
const (
	maxChunkExtensions = 16 << 10 // bytes of chunk extensions in one body (CVE-2023-39326)
	maxTrailers        = 8 << 10  // bytes of trailer lines
	maxChunkLine       = 4 << 10  // bytes of one chunk-size line
)

// bodyFraming is how the end of a body is found (RFC 9112 section 6.3).
type bodyFraming uint8

const (
	bodyNone bodyFraming = iota
	bodyLength
	bodyChunked
	bodyUntilClose
)

// Body is the body of a response, read on the goroutine of the connection. A body that ends before its framing says so
// is an error, never an io.EOF.
type Body struct {
	conn      *conn
	framing   bodyFraming
	remaining int64 // of the body, or of the current chunk
	length    int64
	inChunk   bool
	afterData bool  // the CRLF after the data of a chunk is still to come
	overhead  int   // bytes of chunk extensions so far
	limit     int64 // bytes that may still come; only if limited
	limited   bool
	announced bool // the head of a response that has no body describes one: it may come all the same
	done      bool
	err       *Error
}

// reset begins the body of the response whose head has been read.
func (b *Body) reset(c *conn, ex *Exchange) *Error {
	head, limit := &c.head, ex.transport.options.MaxResponseBody
	*b = Body{conn: c, length: head.length, limit: limit, limited: limit > 0}
	switch {
	case ex.Request.Method == "HEAD" || head.Status == 204 || head.Status == 304:
		b.framing, b.length, b.done = bodyNone, 0, true
		b.announced = head.chunked || head.length > 0
	case head.chunked:
		b.framing = bodyChunked
	case head.length >= 0:
		b.framing, b.remaining, b.done = bodyLength, head.length, head.length == 0
	default:
		b.framing = bodyUntilClose
	}
	if b.limited && b.length > limit {
		return tooLarge("response", limit)
	}
	return nil
}

// Length is the size of the body in bytes, or -1 while it is unknown.
func (b *Body) Length() int64 { return b.length }

// Ended reports whether all of the body has been read.
func (b *Body) Ended() bool { return b.done }

// Arrived reports whether what is left of the body is in memory already: Whole will not wait.
func (b *Body) Arrived() bool {
	return b.done || (b.framing == bodyLength && b.remaining <= int64(b.conn.buffered()))
}

// Read implements io.Reader. It reads from the socket straight into p where the framing allows it.
func (b *Body) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.read(p)
	if err == nil {
		err = b.took(n)
	}
	if err != nil {
		b.err = err
		return 0, err
	}
	if n == 0 && b.done {
		return 0, io.EOF
	}
	return n, nil
}

// ReadArrived is Read, and goes on as long as more has arrived: it waits for the first byte only.
func (b *Body) ReadArrived(p []byte) (int, error) {
	n, err := b.Read(p)
	for err == nil && n < len(p) && !b.done {
		more := 0
		switch {
		case b.ready():
			more, err = b.Read(p[n:])
		case b.conn.buffered() == 0 && (b.inChunk || b.framing != bodyChunked):
			if more = b.conn.readNow(b.clip(p[n:])); more == 0 {
				return n, nil
			}
			if failure := b.took(more); failure != nil {
				b.err, more = failure, 0
				return n, nil
			}
		default:
			return n, nil
		}
		n += more
	}
	if n > 0 {
		return n, nil // the next Read says what b.err says
	}
	return n, err
}

// ready reports whether Read finds something in the buffer.
func (b *Body) ready() bool {
	pending := b.conn.pending()
	if b.framing != bodyChunked || b.inChunk {
		return len(pending) > 0
	}
	if b.afterData {
		pending = pending[min(2, len(pending)):]
	}
	line := bytes.IndexByte(pending, '\n')
	return line >= 0 && len(pending) >= line+3 // and the first bytes of the chunk, or the end of the last one
}

// read reads at most what remains of the body or the chunk; took accounts for it.
func (b *Body) read(p []byte) (int, *Error) {
	if b.framing == bodyChunked && !b.inChunk {
		if err := b.nextChunk(); err != nil || b.done {
			return 0, err
		}
	}
	n, err := b.conn.readSome(b.clip(p))
	switch {
	case err == nil, n > 0:
	case err == io.EOF && b.framing == bodyUntilClose && !b.conn.cutOff():
		b.done = true
	default:
		return 0, b.conn.readError(err, PhaseBody)
	}
	return n, nil
}

// clip cuts p to what may be read before the framing has to be looked at.
func (b *Body) clip(p []byte) []byte {
	if b.framing != bodyUntilClose && int64(len(p)) > b.remaining {
		return p[:b.remaining]
	}
	return p
}

// took notes that n bytes of data were read.
func (b *Body) took(n int) *Error {
	if b.limited && b.length < 0 {
		if b.limit -= int64(n); b.limit < 0 {
			return tooLarge("response", b.conn.ex.transport.options.MaxResponseBody)
		}
	}
	if b.framing == bodyUntilClose || b.done {
		return nil
	}
	if b.remaining -= int64(n); b.remaining == 0 {
		if b.framing == bodyLength {
			b.done = true
		} else {
			// The CRLF behind the data is looked at with the next chunk: what has come is handed on at once.
			b.inChunk, b.afterData = false, true
		}
	}
	return nil
}

// Whole reads a body of known length and returns it in the connection's buffer: valid until Receiver.Done returns.
func (b *Body) Whole() ([]byte, *Error) {
	if b.done {
		return nil, b.err
	}
	for int64(b.conn.buffered()) < b.remaining {
		if err := b.conn.fill(int(b.remaining)); err != nil {
			b.err = b.conn.readError(err, PhaseBody)
			return nil, b.err
		}
	}
	data := b.conn.take(int(b.remaining))
	b.remaining, b.done = 0, true
	return data, nil
}

// nextChunk reads chunk-size [chunk-ext] CRLF, and the trailer section after the last chunk.
func (b *Body) nextChunk() *Error {
	if b.afterData {
		if err := b.chunkEnd(); err != nil {
			return err
		}
		b.afterData = false
	}
	line, err := b.line(maxChunkLine, "chunk size")
	if err != nil {
		return err
	}
	size, digits := int64(0), 0
	for digits < len(line) && isHex(line[digits]) {
		if digits == 15 { // 60 bits: more would be a hostile size and could overflow
			return protocolError("chunk size %.20q is too large", line)
		}
		size = size<<4 | int64(hexValue(line[digits]))
		digits++
	}
	if digits == 0 {
		return protocolError("chunk size %.20q is not a hexadecimal number", line)
	}
	if err := b.extension(line[digits:]); err != nil {
		return err
	}
	if size > 0 {
		b.remaining, b.inChunk = size, true
		return nil
	}
	return b.trailers()
}

// extension checks and drops chunk-ext (RFC 9112 section 7.1.1).
func (b *Body) extension(ext []byte) *Error {
	if len(ext) == 0 {
		return nil
	}
	if trimmed := trimBlanks(ext); len(trimmed) == 0 || trimmed[0] != ';' || !validValue(ext) {
		return protocolError("chunk extension %.20q is malformed", ext)
	}
	if b.overhead += len(ext); b.overhead > maxChunkExtensions {
		return protocolError("chunk extensions exceed %d bytes", maxChunkExtensions)
	}
	return nil
}

// chunkEnd reads the CRLF after the data of a chunk.
func (b *Body) chunkEnd() *Error {
	for b.conn.buffered() < 2 {
		if err := b.conn.fill(2); err != nil {
			return b.conn.readError(err, PhaseBody)
		}
	}
	if end := b.conn.take(2); end[0] != '\r' || end[1] != '\n' {
		return protocolError("chunk data is followed by %q instead of CRLF", end)
	}
	return nil
}

// trailers reads the trailer section and drops it: a field that comes after the body must not be taken for one that
// came before it (RFC 9110 section 6.5.1).
func (b *Body) trailers() *Error {
	for size := 0; ; {
		line, err := b.line(maxTrailers, "trailer")
		if err != nil {
			return err
		}
		if len(line) == 0 {
			b.done = true
			return nil
		}
		if size += len(line); size > maxTrailers {
			return protocolError("trailers exceed %d bytes", maxTrailers)
		}
	}
}

// line returns the next line without its CRLF; valid until the next read.
func (b *Body) line(limit int, what string) ([]byte, *Error) {
	for scanned := 0; ; {
		pending := b.conn.pending()
		if end := bytes.IndexByte(pending[scanned:], '\n'); end >= 0 {
			end += scanned
			if end == 0 || pending[end-1] != '\r' {
				return nil, protocolError("%s line ends in LF without CR", what)
			}
			line := b.conn.take(end + 1)[:end-1]
			if bytes.IndexByte(line, '\r') >= 0 {
				return nil, protocolError("%s line holds a bare CR", what)
			}
			return line, nil
		}
		scanned = len(pending)
		if scanned >= limit {
			return nil, protocolError("%s line exceeds %d bytes", what, limit)
		}
		if err := b.conn.fill(scanned + 1); err != nil {
			return nil, b.conn.readError(err, PhaseBody)
		}
	}
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
