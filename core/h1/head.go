package h1

import (
	"bytes"
	"math"
)

// Limits of a response head.
const (
	maxInterim = 16 // 1xx responses before the final one

	maxIdleTimeout = 24 * 60 * 60 // seconds of Keep-Alive that are taken seriously
)

// Head is the head of a final response. It lives in the connection's buffers: valid until Receiver.Done returns.
type Head struct {
	Status int
	// Minor is the minor version of HTTP/1.
	Minor int
	// Fields are the header lines: all of them as received, or without the hop-by-hop ones for Request.Gateway.
	Fields Fields

	length    int64 // Content-Length; -1 without one
	chunked   bool
	close     bool // Connection: close
	keepAlive bool // Connection: keep-alive
	// idleTimeout is the timeout of Keep-Alive in seconds: how long the upstream keeps an idle connection. 0: not said.
	idleTimeout int64
}

// span is one header line as offsets into the buffer.
type span struct{ name, nameEnd, value, valueEnd int32 }

// headParser reads a response head line by line as its bytes arrive: every byte is looked at once, however the upstream
// slices them, and the first bad line ends the exchange at once.
type headParser struct {
	maxBytes, maxFields int

	line    int // start of the line being read
	scanned int // bytes looked at
	started bool
	head    Head
	spans   []span
	// connections are the indices of the Connection lines in spans, and nominated what they list: that is looked up when
	// the head is complete, because until then its bytes may move.
	connections []int32
	nominated   nominated
}

func (p *headParser) reset(maxBytes, maxFields int) {
	*p = headParser{
		maxBytes: maxBytes, maxFields: maxFields,
		spans: p.spans[:0], connections: p.connections[:0], nominated: p.nominated, head: Head{length: -1},
	}
}

// feed continues in buf, which holds the bytes received since reset. It returns the size of the head once it is
// complete and 0 while more is needed.
func (p *headParser) feed(buf []byte) (int, *Error) {
	for {
		if err := p.checkStart(buf); err != nil {
			return 0, err
		}
		end := bytes.IndexByte(buf[p.scanned:], '\n')
		if end < 0 {
			p.scanned = len(buf)
			if len(buf) >= p.maxBytes {
				return 0, protocolError("response head exceeds %d bytes", p.maxBytes)
			}
			return 0, nil
		}
		end += p.scanned
		p.scanned = end + 1
		if end == p.line || buf[end-1] != '\r' {
			return 0, protocolError("response head has a line that ends in LF without CR")
		}
		line := p.line
		p.line = end + 1
		if p.scanned > p.maxBytes {
			return 0, protocolError("response head exceeds %d bytes", p.maxBytes)
		}
		switch {
		case !p.started && end-1 == line && line == 0:
			// One empty line before the status line is tolerated (RFC 9112 section 2.2).
		case !p.started:
			p.started = true
			if err := p.statusLine(buf[line : end-1]); err != nil {
				return 0, err
			}
		case end-1 == line:
			return p.scanned, p.checkFraming()
		default:
			if err := p.fieldLine(buf, line, end-1); err != nil {
				return 0, err
			}
		}
	}
}

// checkStart refuses what cannot become a status line before its end has come: an upstream that speaks another
// protocol may never send one.
func (p *headParser) checkStart(buf []byte) *Error {
	const version = "HTTP/1."
	if p.started {
		return nil
	}
	start := buf[p.line:]
	if p.line == 0 && len(start) > 0 && start[0] == '\r' && (len(start) == 1 || start[1] == '\n') {
		return nil // the one empty line that is tolerated
	}
	if n := min(len(start), len(version)); string(start[:n]) != version[:n] {
		return protocolError("response starts with %.20q instead of %q", start, version)
	}
	return nil
}

// statusLine parses HTTP-version SP status-code [SP reason-phrase] (RFC 9112 section 4).
func (p *headParser) statusLine(line []byte) *Error {
	if len(line) < len("HTTP/1.1 200") || string(line[:7]) != "HTTP/1." || line[8] != ' ' || (line[7] != '0' && line[7] != '1') {
		return protocolError("status line %.40q is not HTTP/1.0 or HTTP/1.1", line)
	}
	status := 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return protocolError("status line %.40q has no three-digit status", line)
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || status > 599 {
		return protocolError("status %d is outside 100-599", status)
	}
	if len(line) > 12 && (line[12] != ' ' || !validValue(line[13:])) {
		return protocolError("status line %.40q has a malformed reason", line)
	}
	p.head.Status, p.head.Minor = status, int(line[7]-'0')
	return nil
}

// fieldLine parses field-name ":" OWS field-value OWS (RFC 9112 section 5). A blank before the colon and a folded line
// are refused: both have been used to hide framing fields from one of two parsers.
func (p *headParser) fieldLine(buf []byte, start, end int) *Error {
	line := buf[start:end]
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return protocolError("header line %.40q has no colon", line)
	}
	name := line[:colon]
	if !validToken(name) {
		return protocolError("header name %.40q is not a token", name)
	}
	value := trimBlanks(line[colon+1:])
	if !validValue(value) {
		return protocolError("value of header %s holds a control character", name)
	}
	if len(p.spans) >= p.maxFields {
		return protocolError("response head has more than %d fields", p.maxFields)
	}
	valueStart := start + colon + 1
	if len(value) > 0 {
		for isBlank(buf[valueStart]) {
			valueStart++
		}
	}
	p.spans = append(p.spans, span{int32(start), int32(start + colon), int32(valueStart), int32(valueStart + len(value))})
	return p.framingField(name, value)
}

// framingField notes the fields that decide where the body ends and whether the connection lives on.
func (p *headParser) framingField(name, value []byte) *Error {
	switch len(name) {
	case len("connection"):
		if equalFold(name, "connection") {
			for element := range elements(value) {
				p.head.close = p.head.close || equalFold(element, "close")
				p.head.keepAlive = p.head.keepAlive || equalFold(element, "keep-alive")
			}
			p.connections = append(p.connections, int32(len(p.spans)-1))
		} else if equalFold(name, "keep-alive") {
			for element := range elements(value) {
				if seconds, ok := bytes.CutPrefix(element, []byte("timeout=")); ok {
					if n, ok := parseLength(seconds); ok && n < maxIdleTimeout {
						p.head.idleTimeout = n
					}
				}
			}
		}
	case len("content-length"):
		if equalFold(name, "content-length") {
			if p.head.length >= 0 {
				return protocolError("response has more than one Content-Length")
			}
			length, ok := parseLength(value)
			if !ok {
				return protocolError("Content-Length %.40q is not a number of bytes", value)
			}
			p.head.length = length
		}
	case len("transfer-encoding"):
		if equalFold(name, "transfer-encoding") {
			if p.head.chunked || !equalFold(value, "chunked") {
				return protocolError("Transfer-Encoding is %.40q; only a single chunked is understood", value)
			}
			p.head.chunked = true
		}
	}
	return nil
}

// checkFraming refuses the combinations that two parsers could read differently (RFC 9112 sections 6.1 and 6.3).
func (p *headParser) checkFraming() *Error {
	head := &p.head
	switch {
	case head.chunked && head.length >= 0:
		return protocolError("response has both Transfer-Encoding and Content-Length")
	case head.chunked && head.Minor == 0:
		return protocolError("HTTP/1.0 response has a Transfer-Encoding")
	case head.Status < 200 && (head.chunked || head.length > 0):
		return protocolError("interim response %d announces a body", head.Status)
	case head.Status == 101:
		return protocolError("response switches protocols, which was not asked for")
	}
	return nil
}

// pack appends the header lines to dst, without the hop-by-hop ones if gateway is set.
func (p *headParser) pack(dst Fields, buf []byte, gateway bool) Fields {
	p.nominated = p.nominated[:0]
	if gateway {
		for _, i := range p.connections {
			p.nominated = p.nominated.add(buf[p.spans[i].value:p.spans[i].valueEnd])
		}
	}
	for _, s := range p.spans {
		name := buf[s.name:s.nameEnd]
		if gateway && p.nominated.strips(name) {
			continue
		}
		dst = AppendField(dst, name, buf[s.value:s.valueEnd])
	}
	return dst
}

// parseLength accepts 1*DIGIT that fits an int64, and nothing else: no sign, blank, base or list.
func parseLength(value []byte) (int64, bool) {
	if len(value) == 0 {
		return 0, false
	}
	length := int64(0)
	for _, c := range value {
		if c < '0' || c > '9' || length > (math.MaxInt64-9)/10 {
			return 0, false
		}
		length = length*10 + int64(c-'0')
	}
	return length, true
}
