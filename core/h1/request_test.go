package h1

import (
	"bytes"
	"fmt"
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
		"empty line":              {get("a", "x", "", ""), KindInvalidHeader},
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

// The last that is sent and the first that is refused.
func TestTheEdgesOfARequest(t *testing.T) {
	host := func(value string) Request {
		return Request{Method: "GET", Target: "/", Fields: fieldsOf("Host", value)}
	}
	target := func(target string) Request { return Request{Method: "GET", Target: target} }
	tests := map[string]struct {
		request Request
		sent    bool
	}{
		"method of 64 characters":    {Request{Method: strings.Repeat("A", 64), Target: "/"}, true},
		"method of 65 characters":    {Request{Method: strings.Repeat("A", 65), Target: "/"}, false},
		"OPTIONS of a path":          {Request{Method: "OPTIONS", Target: "/"}, true},
		"OPTIONS of nothing":         {Request{Method: "OPTIONS"}, false},
		"first visible character":    {target("/!"), true},
		"last visible character":     {target("/~"), true},
		"Host of a name":             {host("a"), true},
		"Host with port 1":           {host("a:1"), true},
		"Host with port 0":           {host("a:0"), false},
		"Host with port 65535":       {host("a:65535"), true},
		"Host with port 65536":       {host("a:65536"), false},
		"Host with an empty port":    {host("a:"), true},
		"Host with two ports":        {host("a:1:2"), false},
		"Host of a port alone":       {host(":80"), false},
		"Host of a colon":            {host(":"), false},
		"Host IPv6":                  {host("[2001:DB8::f]"), true},
		"Host IPv6 with IPv4":        {host("[::1.2.3.4]"), true},
		"Host IPv6, empty port":      {host("[::1]:"), true},
		"Host IPv6, port 1":          {host("[::1]:1"), true},
		"Host IPv6, port 0":          {host("[::1]:0"), false},
		"Host IPv6, no colon":        {host("[::1]1"), false},
		"Host IPv6, no colon but 80": {host("[::1]180"), false},
		"Host IPv6, text behind it":  {host("[::1]a:1"), false},
		"Host IPv6, not hexadecimal": {host("[::g]"), false},
		"Host IPv6, with a zone":     {host("[::1%25a]"), false},
		"Host of empty brackets":     {host("[]"), false},
		"Host of empty brackets, 80": {host("[]:80"), false},
		"Host of half a bracket":     {host("["), false},
		"Host that ends in brackets": {host("a[::1]"), false},
	}
	for _, c := range []string{"@", "/", "\\", "?", "#", "[", "]", ",", ";", "'", "\"", "<", ">"} {
		for _, value := range []string{c, c + "a", "a" + c, "a" + c + "b:80"} {
			tests["Host "+value] = struct {
				request Request
				sent    bool
			}{host(value), false}
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.request.appendHead(nil, "up:1")
			require.Equal(t, test.sent, err == nil, "%v", err)
			require.Equal(t, test.sent, test.request.Check() == nil)
		})
	}
}

// Every byte of a target: what RFC 9112 section 3.2 does not allow could end the request line or start another part of a URL.
func TestATargetHoldsVisibleASCIIOnly(t *testing.T) {
	for c := range 256 {
		request := Request{Method: "GET", Target: "/" + string([]byte{byte(c)})}
		_, err := request.appendHead(nil, "up:1")
		assert.Equal(t, c > ' ' && c < 0x7f && c != '#', err == nil, "byte 0x%02x", c)
	}
}

// A body whose end is known is announced, and one that is not is chunked; methods that usually have a body say that they have none.
func TestTheFramingOfARequest(t *testing.T) {
	const chunked, none = -1, -2
	tests := map[string]struct {
		method string
		body   []byte
		source Source
		fields Fields
		length int64
	}{
		"GET":                              {"GET", nil, nil, nil, none},
		"DELETE":                           {"DELETE", nil, nil, nil, none},
		"POST":                             {"POST", nil, nil, nil, 0},
		"PUT":                              {"PUT", nil, nil, nil, 0},
		"PATCH":                            {"PATCH", nil, nil, nil, 0},
		"GET, empty body":                  {"GET", []byte{}, nil, nil, none},
		"GET, body":                        {"GET", []byte("x"), nil, nil, 1},
		"GET, body, its length":            {"GET", []byte("x"), nil, fieldsOf("Content-Length", "1"), 1},
		"GET, no body, its length":         {"GET", nil, nil, fieldsOf("Content-Length", "0"), none},
		"GET, source":                      {"GET", nil, &endedSource{}, nil, chunked},
		"GET, source, length 0":            {"GET", nil, &endedSource{}, fieldsOf("Content-Length", "0"), 0},
		"GET, source, length 5":            {"GET", nil, &endedSource{}, fieldsOf("A", "1", "content-LENGTH", "5", "B", "2"), 5},
		"POST, source, length 0":           {"POST", nil, &endedSource{}, fieldsOf("Content-Length", "0"), 0},
		"POST, source":                     {"POST", nil, &endedSource{}, fieldsOf("A", "1"), chunked},
		"POST, source, body beside it":     {"POST", []byte("xyz"), &endedSource{}, nil, chunked},
		"POST, source, other field before": {"POST", nil, &endedSource{}, fieldsOf("X", "5", "Content-Length", "7"), 7},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, gateway := range []bool{false, true} {
				head := headOf(t, Request{Method: test.method, Target: "/", Body: test.body, Source: test.source, Fields: test.fields, Gateway: gateway})
				lines := strings.Split(head, "\r\n")
				switch test.length {
				case none:
					assert.NotContains(t, head, "Content-Length")
					assert.NotContains(t, head, "Transfer-Encoding")
				case chunked:
					assert.Contains(t, lines, "Transfer-Encoding: chunked")
					assert.NotContains(t, head, "Content-Length")
				default:
					assert.Contains(t, lines, fmt.Sprint("Content-Length: ", test.length))
					assert.NotContains(t, head, "Transfer-Encoding")
				}
			}
		})
	}
}

func TestTheLengthOfASourceIsOneNumber(t *testing.T) {
	for name, fields := range map[string]Fields{
		"text":           fieldsOf("Content-Length", "five"),
		"empty":          fieldsOf("Content-Length", ""),
		"negative":       fieldsOf("Content-Length", "-1"),
		"0 twice":        fieldsOf("Content-Length", "0", "Content-Length", "0"),
		"two numbers":    fieldsOf("Content-Length", "1", "A", "b", "content-length", "1"),
		"a list of them": fieldsOf("Content-Length", "1, 1"),
	} {
		for _, gateway := range []bool{false, true} {
			request := Request{Method: "PUT", Target: "/", Source: &endedSource{}, Fields: fields, Gateway: gateway}
			_, err := request.appendHead(nil, "up:1")
			require.NotNil(t, err, name)
			assert.Equal(t, KindInvalidHeader, err.Kind, name)
			assert.Contains(t, err.Message, "Content-Length", name)
		}
	}
}

// A gateway decides itself what it sends of the fields that only a client may not set.
func TestOnlyAGatewayDropsWhatTheClientSetForItsOwnConnection(t *testing.T) {
	fields := fieldsOf("Expect", "100-continue", "Export", "1", "Connection", "A-Field, Hosts", "A-Field", "1", "Hosts", "2")
	client := Request{Method: "GET", Target: "/", Fields: fields}
	assert.Equal(t, "GET / HTTP/1.1\r\nHost: up:1\r\nExpect: 100-continue\r\nExport: 1\r\nConnection: A-Field, Hosts\r\n"+
		"A-Field: 1\r\nHosts: 2\r\n\r\n", headOf(t, client))
	gateway := Request{Method: "GET", Target: "/", Fields: fields, Gateway: true}
	assert.Equal(t, "GET / HTTP/1.1\r\nHost: up:1\r\nExport: 1\r\n\r\n", headOf(t, gateway))
	for _, twice := range []bool{false, true} {
		gateway.Fields = fieldsOf("Host", "client")
		if twice {
			gateway.Fields = AppendField(gateway.Fields, "Host", "a@b")
		}
		assert.Contains(t, headOf(t, gateway), "\r\nHost: up:1\r\n", "the client's own is not looked at")
	}
}

// Neither framing nor address can be nominated away; options of the connection name no field.
func TestWhatAConnectionFieldMayNominate(t *testing.T) {
	names := nominate(fieldsOf("X", "y", "Connection", "Content-Length, HOST, X-Gone", "connection", "close, Keep-Alive, x-more"))
	for name, stripped := range map[string]bool{
		"content-length": false, "Host": false, "x-gone": true, "X-MORE": true, "close": false, "x": false, "y": false,
		"Keep-Alive": true, "TE": true, "Date": false, "X-Gon": false,
	} {
		assert.Equal(t, stripped, names.strips([]byte(name)), name)
	}
	assert.Len(t, names, 4)
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

// A line that was cut short, be it by a byte, ends the list.
func TestFieldsThatAreCutShortEndBefore(t *testing.T) {
	whole := fieldsOf("a", "1", "bc", "", "", "")
	first, second := len(fieldsOf("a", "1")), len(fieldsOf("a", "1", "bc", ""))
	for size := range len(whole) + 1 {
		want := 0
		for _, end := range []int{first, second, len(whole)} {
			if size >= end {
				want++
			}
		}
		got := 0
		for range whole[:size].All {
			got++
		}
		assert.Equal(t, want, got, "%d bytes of %d", size, len(whole))
	}
	for range whole.All {
		break // the rest is not wanted
	}
}

func TestGetFindsTheFirstLineOfAName(t *testing.T) {
	fields := fieldsOf("A", "1", "b", "2", "B", "3", "Empty", "")
	for name, want := range map[string]string{"a": "1", "b": "2", "empty": ""} {
		value, found := fields.Get(name)
		assert.True(t, found, name)
		assert.Equal(t, want, string(value), name)
	}
	value, found := fields.Get("c")
	assert.False(t, found)
	assert.Nil(t, value)
}

func TestFieldsRoundTrip(t *testing.T) {
	fields := fieldsOf("A", "1", "", "", "b", strings.Repeat("x", 70000))
	var again Fields
	for name, value := range fields.All {
		again = AppendField(again, name, value)
	}
	assert.True(t, bytes.Equal(fields, again))
}
