package h1

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/net/http/httpguts"
)

// Request is what an exchange sends. Its memory is the caller's and must stay unchanged until Receiver.Done.
type Request struct {
	// Method is sent as given: any token (RFC 9110 section 9.1) but CONNECT, which asks for a tunnel.
	Method string
	// Target is the request target, sent byte for byte: origin-form, or "*" for OPTIONS (RFC 9112 section 3.2).
	Target string
	// Fields are the header lines. Order, case and duplicates are kept; Host and the framing fields are computed.
	Fields Fields
	// Body is the whole body; nil sends none.
	Body []byte
	// Source, if there is one, yields the body instead of Body. It is sent with the Content-Length that Fields hold, or
	// chunked without one.
	Source Source
	// Again allows the request to be sent once more if a connection that had been idle ends under it before a byte of the
	// response: for methods whose effect is the same twice (RFC 9110 section 9.2.2). It has no effect with a Source.
	Again bool
	// Gateway forwards on behalf of a client: hop-by-hop fields are removed both ways (RFC 9110 section 7.6.1).
	Gateway bool
	// PreserveHost, with Gateway, sends the Host field of Fields instead of the upstream's authority.
	PreserveHost bool

	length int64 // of the body; -1 while it is unknown. Set by appendHead.
}

// Fields is a list of header lines in the form that crosses the border: for each line the sizes of name and value as
// native-endian uint32, then name, then value.
type Fields []byte

const fieldPrefix = 8 // two uint32 sizes

// maxMethod bounds a method; the longest registered one, UPDATEREDIRECTREF, has 17 characters.
const maxMethod = 64

// AppendField appends one header line.
func AppendField[T string | []byte](dst Fields, name, value T) Fields {
	dst = binary.NativeEndian.AppendUint32(dst, uint32(len(name)))
	dst = binary.NativeEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, name...)
	return append(dst, value...)
}

// next splits off the first line. ok is false at the end; a list that was cut short is an error of the caller's that
// must not turn into a read past its end.
func (f Fields) next() (name, value []byte, rest Fields, ok bool) {
	if len(f) < fieldPrefix {
		return nil, nil, nil, false
	}
	names, values := uint64(binary.NativeEndian.Uint32(f)), uint64(binary.NativeEndian.Uint32(f[4:]))
	if uint64(len(f)-fieldPrefix) < names+values {
		return nil, nil, nil, false
	}
	name = f[fieldPrefix : fieldPrefix+names]
	value = f[fieldPrefix+names : fieldPrefix+names+values]
	return name, value, f[fieldPrefix+names+values:], true
}

// All yields the lines in order. The slices alias f.
func (f Fields) All(yield func(name, value []byte) bool) {
	for name, value, rest, ok := f.next(); ok; name, value, rest, ok = rest.next() {
		if !yield(name, value) {
			return
		}
	}
}

// Get returns the value of the first line with this name, which is given in lower case.
func (f Fields) Get(name string) (value []byte, found bool) {
	for other, value := range f.All {
		if equalFold(other, name) {
			return value, true
		}
	}
	return nil, false
}

// Check says why the request must not be sent, as Transport.Start would.
func (r *Request) Check() error {
	if _, err := r.appendHead(nil, "localhost"); err != nil {
		return err
	}
	return nil
}

// appendHead appends the request line and the header section to dst, or says why the request must not be sent.
// Checking and writing are one pass: nothing is sent before all of it has passed (RFC 9110 section 5.5).
func (r *Request) appendHead(dst []byte, authority string) ([]byte, *Error) {
	if err := checkMethod(r.Method); err != nil {
		return dst, err
	}
	if err := checkTarget(r.Method, r.Target); err != nil {
		return dst, err
	}
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.Target...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	host, err := r.host(authority)
	if err != nil {
		return dst, err
	}
	dst = append(dst, host...)
	dst = append(dst, '\r', '\n')
	r.length = int64(len(r.Body))
	if r.Source != nil {
		if r.length, err = r.declaredLength(); err != nil {
			return dst, err
		}
	}
	var hops nominated
	if r.Gateway {
		hops = nominate(r.Fields)
	}
	for name, value := range r.Fields.All {
		keep, err := r.checkField(name, value, hops)
		if err != nil {
			return dst, err
		}
		if keep {
			dst = append(dst, name...)
			dst = append(dst, ':', ' ')
			dst = append(dst, value...)
			dst = append(dst, '\r', '\n')
		}
	}
	switch {
	case r.length < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.length > 0 || r.Source != nil || sendsEmptyBody(r.Method):
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, r.length, 10)
		dst = append(dst, '\r', '\n')
	}
	return append(dst, '\r', '\n'), nil
}

// sendsEmptyBody reports whether a request without a body says so: RFC 9110 section 8.6 asks it of methods that
// usually have one.
func sendsEmptyBody(method string) bool {
	return method == "POST" || method == "PUT" || method == "PATCH"
}

// host returns the value of Host: the upstream's authority, unless the caller's own field is wanted and valid.
func (r *Request) host(authority string) (string, *Error) {
	host, lines := authority, 0
	if r.Gateway && !r.PreserveHost {
		return host, nil
	}
	for name, value := range r.Fields.All {
		if !equalFold(name, "host") {
			continue
		}
		if lines++; lines > 1 {
			return "", invalidHeader("header Host was given more than once; a request has one (RFC 9112 section 3.2)")
		}
		host = string(value)
		if !validAuthority(host) {
			return "", invalidHeader("header Host has the value %q, which is not a host with an optional port", host)
		}
	}
	return host, nil
}

// checkField says whether a line is sent as it is. Host is written by appendHead, framing is computed.
func (r *Request) checkField(name, value []byte, hops nominated) (keep bool, err *Error) {
	if !validToken(name) {
		return false, invalidHeader("header name %q is not a token (RFC 9110 section 5.1)", name)
	}
	if !validValue(value) {
		return false, invalidHeader("value of header %s holds CR, LF, NUL or another control character", name)
	}
	switch len(name) {
	case len("host"):
		if equalFold(name, "host") {
			return false, nil
		}
	case len("content-length"):
		if equalFold(name, "content-length") {
			if !r.Gateway && r.Source == nil && !isLength(value, len(r.Body)) {
				return false, invalidHeader("header Content-Length is %q but the body has %d bytes; leave it out", value, len(r.Body))
			}
			return false, nil
		}
	case len("transfer-encoding"):
		if equalFold(name, "transfer-encoding") {
			if !r.Gateway {
				return false, invalidHeader("header Transfer-Encoding is set by the client itself; leave it out")
			}
			return false, nil
		}
	case len("expect"):
		// The server in front has answered the expectation; the upstream must not see it again.
		if r.Gateway && equalFold(name, "expect") {
			return false, nil
		}
	}
	return !r.Gateway || !hops.strips(name), nil
}

// declaredLength is the Content-Length of a body that comes from a source, or -1 without one.
func (r *Request) declaredLength() (int64, *Error) {
	declared := int64(-1)
	for name, value := range r.Fields.All {
		if !equalFold(name, "content-length") {
			continue
		}
		length, ok := parseLength(value)
		if !ok || declared >= 0 {
			return 0, invalidHeader("header Content-Length is %.40q; one number of bytes is allowed", value)
		}
		declared = length
	}
	return declared, nil
}

func isLength(value []byte, length int) bool {
	n, err := strconv.ParseUint(string(value), 10, 63)
	return err == nil && n == uint64(length)
}

func checkMethod(method string) *Error {
	if method == "CONNECT" {
		return invalidRequest("method CONNECT asks for a tunnel, which a gateway does not open")
	}
	if len(method) > maxMethod || !validToken(method) {
		return invalidRequest("method %.80q is not a token of at most %d characters (RFC 9110 section 9.1)", method, maxMethod)
	}
	return nil
}

func checkTarget(method, target string) *Error {
	if target == "*" && method == "OPTIONS" {
		return nil
	}
	if target == "" || target[0] != '/' {
		return invalidRequest("path %.80q does not start with '/'", target)
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return invalidRequest("path %.80q has the byte 0x%02x at %d; percent-encode it", target, c, i)
		}
	}
	if len(target) > math.MaxInt32 {
		return invalidRequest("path has %d bytes", len(target))
	}
	return nil
}

func invalidRequest(format string, args ...any) *Error {
	return &Error{Kind: KindInvalidRequest, Message: fmt.Sprintf(format, args...)}
}

func invalidHeader(format string, args ...any) *Error {
	return &Error{Kind: KindInvalidHeader, Message: fmt.Sprintf(format, args...)}
}

// validAuthority accepts uri-host [":" port] and nothing that could move the request elsewhere (no userinfo, path or
// blank).
func validAuthority(host string) bool {
	if host == "" || !httpguts.ValidHostHeader(host) {
		return false
	}
	name, port := host, ""
	if host[0] == '[' {
		end := lastByte(host, ']')
		if end < 0 || (end+1 < len(host) && host[end+1] != ':') {
			return false
		}
		name, port = host[1:end], host[end+1:]
		for i := range len(name) {
			if !isHex(name[i]) && name[i] != ':' && name[i] != '.' {
				return false
			}
		}
	} else if colon := lastByte(host, ':'); colon >= 0 {
		name, port = host[:colon], host[colon:]
	}
	if name == "" || (host[0] != '[' && containsAny(name, ":@/\\?#[],;'\"<>")) {
		return false
	}
	if port == "" || port == ":" {
		return true
	}
	n, err := strconv.ParseUint(port[1:], 10, 16)
	return err == nil && n > 0
}

func containsAny(s, bytes string) bool {
	for i := range len(s) {
		if lastByte(bytes, s[i]) >= 0 {
			return true
		}
	}
	return false
}

func lastByte(s string, b byte) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == b {
			return i
		}
	}
	return -1
}
