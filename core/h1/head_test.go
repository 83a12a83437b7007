package h1

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parse feeds a head in pieces of the given size.
func parse(block string, piece int) (*headParser, int, *Error) {
	p := &headParser{}
	p.reset(64<<10, 500)
	for end := min(piece, len(block)); ; end = min(end+piece, len(block)) {
		size, err := p.feed([]byte(block[:end]))
		if size > 0 || err != nil || end == len(block) {
			return p, size, err
		}
	}
}

func TestHeadIsTheSameHoweverItIsSliced(t *testing.T) {
	block := "HTTP/1.1 200 OK\r\nA: 1\r\nSet-Cookie: x=\"y\"\r\nSet-Cookie: \xe9\r\nEmpty:\r\nBlank: \t z \t\r\nContent-Length: 7\r\n\r\nrest"
	for piece := 1; piece <= len(block); piece++ {
		p, size, err := parse(block, piece)
		require.Nil(t, err)
		assert.Equal(t, len(block)-len("rest"), size)
		var lines []string
		for name, value := range p.pack(nil, []byte(block), false).All {
			lines = append(lines, string(name)+"="+string(value))
		}
		assert.Equal(t, []string{"A=1", "Set-Cookie=x=\"y\"", "Set-Cookie=\xe9", "Empty=", "Blank=z", "Content-Length=7"}, lines)
		assert.EqualValues(t, 7, p.head.length)
	}
}

func TestGatewayStripsHopByHopFieldsOfTheResponse(t *testing.T) {
	block := "HTTP/1.1 200 OK\r\nConnection:\r\nX-Gone: 1\r\nKeep-Alive: timeout=5\r\nConnection: close, x-gone\r\n" +
		"Trailer: A\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nKept: 1\r\nContent-Length: 0\r\n\r\n"
	p, _, err := parse(block, len(block))
	require.Nil(t, err)
	assert.Equal(t, fieldsOf("Kept", "1", "Content-Length", "0"), p.pack(nil, []byte(block), true))
	assert.False(t, p.head.persistent())
}

// net/http reads heads more leniently than we do: what we accept, it must accept too, with the same meaning.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"\r\nHTTP/1.1 204 \r\nA: b\r\nA: c\r\n\r\n",
		"HTTP/1.1 200\r\nContent-Length: 010\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
		"HTTP/1.1 200 OK\nA: b\n\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
	} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, block []byte, piece int) {
		p, size, err := parse(string(block), max(1, piece))
		whole, wholeSize, wholeErr := parse(string(block), max(1, len(block)))
		if size != wholeSize || (err == nil) != (wholeErr == nil) {
			t.Fatalf("slicing changed the verdict: %d %v, whole %d %v", size, err, wholeSize, wholeErr)
		}
		if size == 0 || err != nil || p.head.Status < 200 {
			return
		}
		text := bytes.TrimPrefix(block, []byte("\r\n"))
		response, readErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), &http.Request{Method: "HEAD"})
		if readErr != nil {
			if strings.Contains(readErr.Error(), "malformed MIME header") {
				return // net/http limits which names and values it takes in ways RFC 9110 does not
			}
			t.Fatalf("accepted %q, which net/http refuses: %v", block[:size], readErr)
		}
		if response.StatusCode != whole.head.Status {
			t.Fatalf("status %d, net/http reads %d", whole.head.Status, response.StatusCode)
		}
		if values := response.Header["Content-Length"]; len(values) > 0 && whole.head.length < 0 {
			t.Fatalf("no length, net/http reads %q", values)
		}
	})
}

// The last that is taken and the first that is not, and who says so.
func TestTheEdgesOfAHead(t *testing.T) {
	head := func(lines ...string) string { return "HTTP/1.1 200 OK\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" }
	const accepted = ""
	tests := map[string]struct{ block, because string }{
		"one empty line before":         {"\r\nHTTP/1.1 200 OK\r\n\r\n", accepted},
		"two empty lines before":        {"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "starts with"},
		"a CR before":                   {"\rHTTP/1.1 200 OK\r\n\r\n", "starts with"},
		"an LF before":                  {"\nHTTP/1.1 200 OK\r\n\r\n", "starts with"},
		"another protocol":              {"SSH-2.0-x", "starts with"},
		"another protocol, lower case":  {"http/1.1 200 OK\r\n\r\n", "starts with"},
		"another protocol, empty line":  {"\r\nSSH-2.0-x", "starts with"},
		"HTTP/2":                        {"HTTP/2", "starts with"},
		"HTTP/1.0":                      {"HTTP/1.0 200 OK\r\n\r\n", accepted},
		"HTTP/1.2":                      {"HTTP/1.2 200 OK\r\n\r\n", "is not HTTP/1.0 or HTTP/1.1"},
		"HTTP/1./":                      {"HTTP/1./ 200 OK\r\n\r\n", "is not HTTP/1.0 or HTTP/1.1"},
		"HTTP/1.11":                     {"HTTP/1.11 200 OK\r\n\r\n", "is not HTTP/1.0 or HTTP/1.1"},
		"no blank before the status":    {"HTTP/1.1\t200 OK\r\n\r\n", "is not HTTP/1.0 or HTTP/1.1"},
		"no reason":                     {"HTTP/1.1 200\r\n\r\n", accepted},
		"empty reason":                  {"HTTP/1.1 200 \r\n\r\n", accepted},
		"reason of one character":       {"HTTP/1.1 200 a\r\n\r\n", accepted},
		"reason without a blank":        {"HTTP/1.1 200a\r\n\r\n", "malformed reason"},
		"reason with a control byte":    {"HTTP/1.1 200 \x01\r\n\r\n", "malformed reason"},
		"status of two digits":          {"HTTP/1.1 20\r\n\r\n", "is not HTTP/1.0 or HTTP/1.1"},
		"status with a byte below 0":    {"HTTP/1.1 2/0 OK\r\n\r\n", "no three-digit status"},
		"status with a byte above 9":    {"HTTP/1.1 20: OK\r\n\r\n", "no three-digit status"},
		"status 099":                    {"HTTP/1.1 099 OK\r\n\r\n", "outside 100-599"},
		"status 100":                    {"HTTP/1.1 100 OK\r\n\r\n", accepted},
		"status 199":                    {"HTTP/1.1 199 OK\r\n\r\n", accepted},
		"status 599":                    {"HTTP/1.1 599 OK\r\n\r\n", accepted},
		"status 600":                    {"HTTP/1.1 600 OK\r\n\r\n", "outside 100-599"},
		"switched protocols":            {"HTTP/1.1 101 OK\r\n\r\n", "switches protocols"},
		"status line that ends in LF":   {"HTTP/1.1 200 OK\n\r\n", "without CR"},
		"empty line that ends in LF":    {"HTTP/1.1 200 OK\r\n\n", "without CR"},
		"field without a colon":         {head("a"), "no colon"},
		"field without a name":          {head(":a"), "is not a token"},
		"name of one character":         {head("a:"), accepted},
		"length 0":                      {head("Content-Length: 0"), accepted},
		"length 0 twice":                {head("Content-Length: 0", "Content-Length: 0"), "more than one"},
		"length with a byte below 0":    {head("Content-Length: 1/"), "not a number"},
		"length with a byte above 9":    {head("Content-Length: 1:"), "not a number"},
		"length of 9s":                  {head("Content-Length: 999999999999999999"), accepted},
		"largest length":                {head("Content-Length: 9223372036854775799"), accepted},
		"length past 64 bits":           {head("Content-Length: 9223372036854775808"), "not a number"},
		"length and encoding":           {head("Content-Length: 0", "Transfer-Encoding: chunked"), "both"},
		"encoding in capitals":          {head("TRANSFER-ENCODING: CHUNKED"), accepted},
		"encoding of HTTP/1.0":          {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 response has"},
		"interim response, length 0":    {"HTTP/1.1 103 OK\r\nContent-Length: 0\r\n\r\n", accepted},
		"interim response, length 1":    {"HTTP/1.1 103 OK\r\nContent-Length: 1\r\n\r\n", "announces a body"},
		"interim response, chunked":     {"HTTP/1.1 103 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "announces a body"},
		"first final response, length":  {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", accepted},
		"first final response, chunked": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", accepted},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, len(test.block)} {
				_, size, err := parse(test.block, piece)
				if test.because == accepted {
					require.Nil(t, err)
					require.Equal(t, len(test.block), size)
					continue
				}
				require.NotNil(t, err)
				require.Equal(t, KindProtocol, err.Kind)
				require.Contains(t, err.Message, test.because)
			}
		})
	}
}

// An upstream of another protocol may wait for us now: it is refused with the first byte that no response has.
func TestAnotherProtocolIsRefusedAtItsFirstWrongByte(t *testing.T) {
	for start, wrong := range map[string]int{"SSH": 1, "HTTP/2": 6, "HTTPS": 5, "\rH": 2, "\r\r": 2, "\r\nX": 3, "\r\n\r": 3} {
		p := &headParser{}
		p.reset(1000, 10)
		for end := range wrong {
			size, err := p.feed([]byte(start[:end]))
			require.Nil(t, err, "%q of %q", start[:end], start)
			require.Zero(t, size)
		}
		_, err := p.feed([]byte(start[:wrong]))
		require.NotNil(t, err, "%q", start)
		require.Contains(t, err.Message, "starts with")
	}
}

func TestAHeadMayBeAsLargeAsItsLimitAndNoLarger(t *testing.T) {
	block := []byte("HTTP/1.1 200 OK\r\nA: 1\r\n\r\n")
	feed := func(limit int, block []byte) (int, *Error) {
		p := &headParser{}
		p.reset(limit, 10)
		return p.feed(block)
	}
	size, err := feed(len(block), block)
	require.Nil(t, err)
	assert.Equal(t, len(block), size)
	size, err = feed(len(block)-1, block)
	require.NotNil(t, err)
	assert.Contains(t, err.Message, "exceeds")
	assert.Zero(t, size)

	// The end of a line that is as long as the limit would be past it.
	unended := []byte("HTTP/1.1 200 OK")
	_, err = feed(len(unended)+1, unended)
	require.Nil(t, err, "the next byte may end the line")
	_, err = feed(len(unended), unended)
	require.NotNil(t, err)
	assert.Contains(t, err.Message, "exceeds")
}

func TestAHeadMayHaveAsManyFieldsAsItsLimitAndNoMore(t *testing.T) {
	for fields, accepted := range map[int]bool{0: true, 2: true, 3: true, 4: false} {
		p := &headParser{}
		p.reset(1000, 3)
		_, err := p.feed([]byte("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: 1\r\n", fields) + "\r\n"))
		require.Equal(t, accepted, err == nil, "%d fields", fields)
	}
}

// What the head says about the connection and its idle time.
func TestTheConnectionAfterAHead(t *testing.T) {
	tests := map[string]struct {
		block      string
		persistent bool
		idle       int64
	}{
		"HTTP/1.1":                     {"HTTP/1.1 200 OK\r\n\r\n", true, 0},
		"HTTP/1.0":                     {"HTTP/1.0 200 OK\r\n\r\n", false, 0},
		"HTTP/1.0, kept":               {"HTTP/1.0 200 OK\r\nConnection: x, Keep-Alive\r\n\r\n", true, 0},
		"HTTP/1.0, kept, two lines":    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nConnection: x\r\n\r\n", true, 0},
		"closed":                       {"HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false, 0},
		"closed, two lines":            {"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: x\r\n\r\n", false, 0},
		"kept and closed":              {"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\n\r\n", false, 0},
		"an idle time":                 {"HTTP/1.1 200 OK\r\nKeep-Alive: max=9, timeout=5\r\n\r\n", true, 5},
		"an idle time, just below":     {"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=86399\r\n\r\n", true, 86399},
		"an idle time of a whole day":  {"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=86400\r\n\r\n", true, 0},
		"an idle time that is none":    {"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=soon\r\n\r\n", true, 0},
		"an idle time below zero":      {"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=-1\r\n\r\n", true, 0},
		"an idle time somewhere else":  {"HTTP/1.1 200 OK\r\nLeave-Keep: timeout=5\r\n\r\n", true, 0},
		"an option in another field":   {"HTTP/1.1 200 OK\r\nConnexions: close\r\n\r\n", true, 0},
		"a field as long as the names": {"HTTP/1.1 200 OK\r\nX-ontent-Length: 5\r\nX-ansfer-Encoding: x\r\n\r\n", true, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, _, err := parse(test.block, len(test.block))
			require.Nil(t, err)
			assert.Equal(t, test.persistent, p.head.persistent())
			assert.Equal(t, test.idle, p.head.idleTimeout)
			assert.EqualValues(t, -1, p.head.length)
			assert.False(t, p.head.chunked)
		})
	}
}

// A parser serves the heads of one connection after another: nothing of the last one is left.
func TestAResetParserKnowsNothingOfTheLastHead(t *testing.T) {
	p := &headParser{}
	p.reset(1000, 10)
	_, err := p.feed([]byte("HTTP/1.0 404 No\r\nConnection: close, x\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\n"))
	require.Nil(t, err)
	p.reset(1000, 10)
	block := []byte("HTTP/1.1 200 OK\r\nX: 1\r\n\r\n")
	size, err := p.feed(block)
	require.Nil(t, err)
	assert.Equal(t, len(block), size)
	assert.Equal(t, fieldsOf("X", "1"), p.pack(nil, block, true))
	assert.Equal(t, Head{Status: 200, Minor: 1, length: -1}, p.head)
}

func TestHeadParsingDoesNotAllocate(t *testing.T) {
	block := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\nDate: x\r\nServer: y\r\n\r\n")
	p := &headParser{}
	var fields Fields
	allocations := testing.AllocsPerRun(100, func() {
		p.reset(64<<10, 500)
		if _, err := p.feed(block); err != nil {
			t.Fatal(err)
		}
		fields = p.pack(fields[:0], block, true)
	})
	assert.Zero(t, allocations)
}

func BenchmarkHead(b *testing.B) {
	block := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n" +
		"Server: upstream\r\nETag: \"abc\"\r\nCache-Control: no-store\r\nVary: Accept-Encoding\r\n\r\n")
	p := &headParser{}
	var fields Fields
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		p.reset(64<<10, 500)
		if _, err := p.feed(block); err != nil {
			b.Fatal(err)
		}
		fields = p.pack(fields[:0], block, false)
	}
}
