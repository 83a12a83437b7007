package h1

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func fieldsOf(lines ...string) (f Fields) {
	for i := 0; i < len(lines); i += 2 {
		f = AppendField(f, lines[i], lines[i+1])
	}
	return f
}

func headOf(t *testing.T, r Request) string {
	t.Helper()
	head, err := r.appendHead(nil, "up:1")
	require.Nil(t, err)
	return string(head)
}

func TestRequestHead(t *testing.T) {
	tests := map[string]struct {
		request Request
		head    string
	}{
		"plain":                  {Request{Method: "GET", Target: "/"}, "GET / HTTP/1.1\r\nHost: up:1\r\n\r\n"},
		"OPTIONS *":              {Request{Method: "OPTIONS", Target: "*"}, "OPTIONS * HTTP/1.1\r\nHost: up:1\r\n\r\n"},
		"own method":             {Request{Method: "get", Target: "/"}, "get / HTTP/1.1\r\nHost: up:1\r\n\r\n"},
		"POST without body":      {Request{Method: "POST", Target: "/"}, "POST / HTTP/1.1\r\nHost: up:1\r\nContent-Length: 0\r\n\r\n"},
		"DELETE with body":       {Request{Method: "DELETE", Target: "/", Body: []byte("x")}, "DELETE / HTTP/1.1\r\nHost: up:1\r\nContent-Length: 1\r\n\r\n"},
		"own Host":               {Request{Method: "GET", Target: "/", Fields: fieldsOf("A", "1", "hOST", "a.example:80")}, "GET / HTTP/1.1\r\nHost: a.example:80\r\nA: 1\r\n\r\n"},
		"own Host, IPv6":         {Request{Method: "GET", Target: "/", Fields: fieldsOf("Host", "[::1]:80")}, "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"},
		"matching length":        {Request{Method: "PUT", Target: "/", Fields: fieldsOf("content-length", "1"), Body: []byte("x")}, "PUT / HTTP/1.1\r\nHost: up:1\r\nContent-Length: 1\r\n\r\n"},
		"hop-by-hop of a client": {Request{Method: "GET", Target: "/", Fields: fieldsOf("Connection", "close", "TE", "trailers")}, "GET / HTTP/1.1\r\nHost: up:1\r\nConnection: close\r\nTE: trailers\r\n\r\n"},
		"gateway": {
			Request{Method: "GET", Target: "/", Gateway: true, Fields: fieldsOf(
				"Host", "client", "connection", "", "Connection", "X-Gone, close,, Content-Length, host", "X-Gone", "1", "x-gone", "2", "X-Kept", "3",
				"Keep-Alive", "1", "Proxy-Connection", "1", "TE", "1", "Transfer-Encoding", "chunked", "Upgrade", "h2c", "Trailer", "1",
				"Proxy-Authenticate", "1", "Proxy-Authorization", "1", "Proxy-Authentication-Info", "1", "HTTP2-Settings", "1",
				"Expect", "100-continue", "Content-Length", "99"), Body: []byte("x")},
			"GET / HTTP/1.1\r\nHost: up:1\r\nX-Kept: 3\r\nContent-Length: 1\r\n\r\n",
		},
		"gateway that preserves Host": {
			Request{Method: "GET", Target: "/", Gateway: true, PreserveHost: true, Fields: fieldsOf("Host", "client:8", "A", "1")},
			"GET / HTTP/1.1\r\nHost: client:8\r\nA: 1\r\n\r\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.head, headOf(t, test.request)) })
	}
}

func TestRequestsThatMustNotBeSent(t *testing.T) {
	get := func(lines ...string) Request { return Request{Method: "GET", Target: "/", Fields: fieldsOf(lines...)} }
	tests := map[string]struct {
		request Request
		kind    Kind
	}{
		"CONNECT":                 {Request{Method: "CONNECT", Target: "/"}, KindInvalidRequest},
		"empty method":            {Request{Target: "/"}, KindInvalidRequest},
		"method with a blank":     {Request{Method: "G ET", Target: "/"}, KindInvalidRequest},
		"method with a line":      {Request{Method: "GET\r\nX: y", Target: "/"}, KindInvalidRequest},
		"long method":             {Request{Method: strings.Repeat("A", 65), Target: "/"}, KindInvalidRequest},
		"empty target":            {Request{Method: "GET"}, KindInvalidRequest},
		"target without a slash":  {Request{Method: "GET", Target: "@evil"}, KindInvalidRequest},
		"absolute target":         {Request{Method: "GET", Target: "http://evil/"}, KindInvalidRequest},
		"* for GET":               {Request{Method: "GET", Target: "*"}, KindInvalidRequest},
		"blank in the target":     {Request{Method: "GET", Target: "/a b"}, KindInvalidRequest},
		"line in the target":      {Request{Method: "GET", Target: "/a\r\nX: y"}, KindInvalidRequest},
		"fragment":                {Request{Method: "GET", Target: "/a#b"}, KindInvalidRequest},
		"DEL in the target":       {Request{Method: "GET", Target: "/\x7f"}, KindInvalidRequest},
		"non-ASCII target":        {Request{Method: "GET", Target: "/\xc3\xa9"}, KindInvalidRequest},
		"empty name":              {get("", "x"), KindInvalidHeader},
		"name with a colon":       {get("a:", "x"), KindInvalidHeader},
		"name with a blank":       {get("a ", "x"), KindInvalidHeader},
		"non-ASCII name":          {get("\xe9", "x"), KindInvalidHeader},
		"value with CR":           {get("a", "x\ry"), KindInvalidHeader},
		"value with LF":           {get("a", "x\ny"), KindInvalidHeader},
		"value with NUL":          {get("a", "x\x00y"), KindInvalidHeader},
		"value with DEL":          {get("a", "\x7f"), KindInvalidHeader},
		"two Hosts":               {get("Host", "a", "host", "a"), KindInvalidHeader},
		"empty Host":              {get("Host", ""), KindInvalidHeader},
		"Host with user":          {get("Host", "a@b"), KindInvalidHeader},
		"Host with path":          {get("Host", "a/b"), KindInvalidHeader},
		"Host with blank":         {get("Host", "a b"), KindInvalidHeader},
		"Host with high port":     {get("Host", "a:65536"), KindInvalidHeader},
		"Host with text port":     {get("Host", "a:b"), KindInvalidHeader},
		"Host with open bracket":  {get("Host", "[::1"), KindInvalidHeader},
		"Host IPv6 unbracketed":   {get("Host", "::1"), KindInvalidHeader},
		"Host with comma":         {get("Host", "a,b"), KindInvalidHeader},
		"wrong length":            {get("Content-Length", "5"), KindInvalidHeader},
		"negative length":         {get("Content-Length", "-1"), KindInvalidHeader},
		"two lengths":             {Request{Method: "PUT", Target: "/", Body: []byte("x"), Fields: fieldsOf("Content-Length", "1, 1")}, KindInvalidHeader},
		"own transfer encoding":   {get("Transfer-Encoding", "chunked"), KindInvalidHeader},
		"preserved Host is wrong": {Request{Method: "GET", Target: "/", Gateway: true, PreserveHost: true, Fields: fieldsOf("Host", "a@b")}, KindInvalidHeader},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.request.appendHead(nil, "up:1")
			require.NotNil(t, err)
			assert.Equal(t, test.kind, err.Kind)
			assert.NotContains(t, err.Message, "\n", "the message must be one line")
		})
	}
}

// Whatever a caller gives: it is refused, or what goes out is one head whose lines are the ones given.
func TestRequestHeadCannotBeSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[!-~]{0,12}`), rapid.SampledFrom([]string{"\r\n", "Host", "Connection", "close", "/"}))
		request := Request{
			Method:  rapid.OneOf(text, rapid.SampledFrom([]string{"GET", "POST"})).Draw(t, "method"),
			Target:  rapid.OneOf(text, rapid.StringMatching(`/[!-~]{0,20}`)).Draw(t, "target"),
			Body:    rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "body"),
			Gateway: rapid.Bool().Draw(t, "gateway"),
		}
		for range rapid.IntRange(0, 4).Draw(t, "lines") {
			request.Fields = AppendField(request.Fields, text.Draw(t, "name"), text.Draw(t, "value"))
		}
		head, err := request.appendHead(nil, "up:1")
		if err != nil {
			return
		}
		lines := strings.Split(string(head), "\r\n")
		if n := len(lines); lines[n-1] != "" || lines[n-2] != "" {
			t.Fatalf("the head does not end with an empty line: %q", head)
		}
		lines = lines[:len(lines)-2]
		if lines[0] != request.Method+" "+request.Target+" HTTP/1.1" || strings.Count(lines[0], " ") != 2 {
			t.Fatalf("request line %q", lines[0])
		}
		hosts, given := 0, map[string]bool{}
		for name, value := range request.Fields.All {
			given[string(name)+": "+string(value)] = true
		}
		for _, line := range lines[1:] {
			if strings.ContainsAny(line, "\r\n\x00") || line == "" {
				t.Fatalf("line %q", line)
			}
			if strings.HasPrefix(line, "Host: ") {
				hosts++
			} else if !given[line] && !strings.HasPrefix(line, "Content-Length: ") {
				t.Fatalf("line %q was not given", line)
			}
		}
		if hosts != 1 {
			t.Fatalf("%d Host lines in %q", hosts, head)
		}
	})
}

func FuzzFieldsNeverReadPastTheirEnd(f *testing.F) {
	f.Add([]byte(fieldsOf("a", "b", "c", "d")))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255, 'a'})
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		for name, value := range Fields(data).All {
			total += fieldPrefix + len(name) + len(value)
		}
		if total > len(data) {
			t.Fatalf("%d bytes of lines in %d", total, len(data))
		}
	})
}

func TestFieldsRoundTrip(t *testing.T) {
	fields := fieldsOf("A", "1", "", "", "b", strings.Repeat("x", 70000))
	var again Fields
	for name, value := range fields.All {
		again = AppendField(again, name, value)
	}
	assert.True(t, bytes.Equal(fields, again))
}
