package h1

import "bytes"

// hopByHop are the fields that belong to one connection and are never forwarded (RFC 9110 section 7.6.1, RFC 9112
// section 3.3 for HTTP2-Settings, and the Proxy-Connection of old clients). Lower case.
var hopByHop = [...]string{
	"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "trailer",
	"proxy-authenticate", "proxy-authorization", "proxy-authentication-info", "http2-settings",
}

// nominated are the names listed in the Connection fields of a message.
type nominated [][]byte

// nominate collects the names of every Connection line: the first line may be empty (CVE-2021-33197).
func nominate(fields Fields) nominated {
	var names nominated
	for name, value := range fields.All {
		if equalFold(name, "connection") {
			names = names.add(value)
		}
	}
	return names
}

func (n nominated) add(value []byte) nominated {
	for element := range elements(value) {
		// close and keep-alive are options of the connection, not names of fields.
		if !equalFold(element, "close") && !equalFold(element, "keep-alive") {
			n = append(n, element)
		}
	}
	return n
}

// strips reports whether a gateway removes the field. Content-Length and Host cannot be nominated away: the first
// frames the message, the second addresses it.
func (n nominated) strips(name []byte) bool {
	for _, hop := range hopByHop {
		if equalFold(name, hop) {
			return true
		}
	}
	for _, other := range n {
		if bytes.EqualFold(name, other) {
			return !equalFold(name, "content-length") && !equalFold(name, "host")
		}
	}
	return false
}
