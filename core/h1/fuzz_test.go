package h1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sliced is a connection that yields its bytes in pieces of one size, then ends.
type sliced struct {
	net.Conn
	data []byte
	size int
}

func (s *sliced) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.data)
	s.data = s.data[n:]
	return n, nil
}

// readChunked reads data as the chunked body of a response; rest is what comes behind it.
func readChunked(data []byte, slice, read int) (body, rest []byte, err error) {
	c := newConn()
	source := &sliced{data: data, size: slice}
	c.Conn = source
	c.ex = &Exchange{transport: &Transport{}, Request: Request{Method: "GET"}}
	c.head = Head{Status: 200, chunked: true, length: -1}
	if failure := c.body.reset(c, c.ex); failure != nil {
		return nil, nil, failure
	}
	piece := make([]byte, read)
	for {
		n, err := c.body.ReadArrived(piece)
		body = append(body, piece[:n]...)
		if err == io.EOF {
			return body, append(bytes.Clone(c.pending()), source.data...), nil
		}
		if err != nil {
			return body, nil, err
		}
	}
}

// FuzzChunkedBody: what is accepted means the same to net/http's reader, however it is sliced, and nothing behind the body
// is touched.
func FuzzChunkedBody(f *testing.F) {
	for _, seed := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "5;x=\"y\"\r\nhello\r\n0\r\nA: b\r\n\r\n", "0\r\n\r\n", "a \r\n0123456789\r\n000\r\n\r\nHTTP/1.1",
		"5\nhello\n0\n\n", "-5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "ffffffffffffffff\r\n",
		"5\r\nhello\r\n0\r\nA: b\n\r\n", "5;\r\r\nhello\r\n0\r\n\r\n", "5 ;\r\nhello\r\n0;\r\n\r\n", "1\r\na\r\n1\r\nb\r\n", " 5\r\nhello\r\n0\r\n\r\n",
		"5;" + strings.Repeat("x", 5000) + "\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "5_\r\nhello\r\n0\r\n\r\n", "", "\r\n", "0\r\n\rX",
	} {
		f.Add([]byte(seed), uint16(1), uint16(7))
		f.Add([]byte(seed), uint16(1000), uint16(3000))
	}
	f.Fuzz(func(t *testing.T, data []byte, slice, read uint16) {
		body, rest, err := readChunked(data, max(int(slice), 1), max(int(read), 1))
		whole, wholeRest, wholeErr := readChunked(data, len(data)+1, 64<<10)
		require.Equal(t, wholeErr == nil, err == nil, "slicing decides")
		if err != nil {
			return
		}
		require.Equal(t, whole, body)
		require.Equal(t, wholeRest, rest)
		require.True(t, bytes.HasSuffix(data, rest))
		theirs, failure := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if bytes.Contains(data, []byte(" ;")) || bytes.Contains(data, []byte("\t;")) {
			return // a blank before an extension is legal (RFC 9112 section 7.1.1), and net/http refuses it
		}
		require.NoError(t, failure, "net/http refuses it")
		require.True(t, bytes.Equal(theirs, body))
	})
}

// FuzzRequestHead: a request that is sent is one request to net/http, with the method, target, host and fields it was
// given, and nothing behind it.
func FuzzRequestHead(f *testing.F) {
	f.Add("GET", "/", "accept", "a/b", "body")
	f.Add("GET / HTTP/1.1\r\nX: y", "/", "a", "b", "")
	f.Add("POST", "/a b", "a", "b", "")
	f.Add("POST", "//evil/?u=http://x", "Host", "good:80", "x")
	f.Add("PUT", "/%2F%zz?", "Content-Length", "4", "body")
	f.Add("get", "/#", "a", "b\r\nc: d", "")
	f.Add("A", "*", "Transfer-Encoding", "chunked", "")
	f.Add("OPTIONS", "*", "x y", "é", "")
	f.Fuzz(func(t *testing.T, method, target, name, value, body string) {
		request := Request{Method: method, Target: target, Body: []byte(body), Fields: AppendField(nil, name, value)}
		head, failure := request.appendHead(nil, "upstream:8080")
		if failure != nil {
			return
		}
		wire := append(head, body...)
		reader := bufio.NewReader(bytes.NewReader(wire))
		parsed, err := http.ReadRequest(reader)
		if err != nil {
			// net/http knows less: it refuses targets that no URL can hold, and looks closer at hosts.
			require.True(t, strings.Contains(target, "%") || strings.Contains(err.Error(), "malformed Host") ||
				strings.Contains(err.Error(), "invalid URI") || strings.Contains(err.Error(), "parse"), "%v", err)
			return
		}
		require.Equal(t, method, parsed.Method)
		require.Equal(t, target, parsed.RequestURI)
		got, err := io.ReadAll(parsed.Body)
		require.NoError(t, err)
		require.Equal(t, body, string(got))
		require.Zero(t, reader.Buffered(), "a second request")
		lower := strings.ToLower(name)
		switch lower {
		case "host":
			require.Equal(t, value, parsed.Host)
		case "content-length":
		default:
			require.Equal(t, "upstream:8080", parsed.Host)
			require.Equal(t, []string{strings.Trim(value, " \t")}, parsed.Header[http.CanonicalHeaderKey(name)])
			require.LessOrEqual(t, len(parsed.Header), 2)
		}
	})
}
