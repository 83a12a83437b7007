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
