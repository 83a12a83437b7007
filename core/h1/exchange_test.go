package h1

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// fasthttp's cleaner of a pool lives as long as the process: pools are used again.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestExchangeSendsBytesAsGiven(t *testing.T) {
	heads := make(chan string, 1)
	upstream := newScriptedUpstream(t, func(v *visit) {
		heads <- v.head() + v.body(5)
		v.send("HTTP/1.1 201 Created\r\nX-B: 1\r\nx-a:  2 \r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok")
		v.untilClosed()
	})
	transport := newTransport(t, upstream.address(), func(o *Options) { o.Authority = "api.example" })
	fields := AppendField(nil, "x-Lower", "1")
	fields = AppendField(fields, "X-UPPER", "")
	fields = AppendField(fields, "x-lower", "a\"b; c=\xe9")
	got := exchange(t, transport, Request{Method: "POST", Target: "//evil/%2F..?u=http://x", Fields: fields, Body: []byte("hello")})
	require.Nil(t, got.err)
	assert.Equal(t, "POST //evil/%2F..?u=http://x HTTP/1.1\r\nHost: api.example\r\nx-Lower: 1\r\nX-UPPER: \r\n"+
		"x-lower: a\"b; c=\xe9\r\nContent-Length: 5\r\nhello", <-heads)
	assert.Equal(t, 201, got.status)
	assert.Equal(t, []string{"X-B: 1", "x-a: 2", "Set-Cookie: a", "Set-Cookie: b", "Content-Length: 2"}, got.fields)
	assert.Equal(t, "ok", got.body)
}

func TestConnectionIsReused(t *testing.T) {
	upstream := newScriptedUpstream(t, func(v *visit) {
		for v.head() != "" {
			v.send(okResponse)
		}
	})
	transport := newTransport(t, upstream.address())
	for range 100 {
		require.Nil(t, exchange(t, transport, get("/")).err)
	}
	assert.EqualValues(t, 1, upstream.accepted.Load())
}

func TestResponseFramings(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20000) // 320,000 bytes
	tests := map[string]struct {
		method, response, body string
		closes, reusable       bool
	}{
		"content length":       {response: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", body: "hello", reusable: true},
		"large content length": {response: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(big), big), body: big, reusable: true},
		"chunked":              {response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6 ;x=\"y\"\r\n world\r\n0\r\nX-T: 1\r\n\r\n", body: "hello world", reusable: true},
		"large chunk":          {response: fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%X\r\n%s\r\n0\r\n\r\n", len(big), big), body: big, reusable: true},
		"20,000 chunks":        {response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 20000) + "0\r\n\r\n", body: strings.Repeat("x", 20000), reusable: true},
		"until close":          {response: "HTTP/1.0 200 OK\r\n\r\nhello", body: "hello", closes: true},
		"HTTP/1.0 keep-alive":  {response: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", body: "ok", reusable: true},
		"HTTP/1.0":             {response: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", body: "ok"},
		"Connection: close":    {response: "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", body: "ok"},
		"HEAD":                 {method: "HEAD", response: "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"},
		"HEAD, chunked":        {method: "HEAD", response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		"HEAD of nothing":      {method: "HEAD", response: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", reusable: true},
		"204":                  {response: "HTTP/1.1 204 No Content\r\n\r\n", reusable: true},
		"304":                  {response: "HTTP/1.1 304 Not Modified\r\n\r\n", reusable: true},
		"304 with a length":    {response: "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n"},
		"empty":                {response: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", reusable: true},
		"interim responses":    {response: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + okResponse, body: "ok", reusable: true},
		"leading CRLF":         {response: "\r\n" + okResponse, body: "ok", reusable: true},
		"no reason":            {response: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", body: "ok", reusable: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, slice := range []int{1 << 30, 1000, 1} {
				if slice == 1 && len(test.response) > 1000 {
					continue
				}
				upstream := newScriptedUpstream(t, func(v *visit) {
					for v.head() != "" {
						for rest := test.response; rest != ""; {
							n := min(slice, len(rest))
							v.send(rest[:n])
							rest = rest[n:]
						}
						if test.closes {
							return
						}
					}
				})
				transport := newTransport(t, upstream.address())
				method := test.method
				if method == "" {
					method = "GET"
				}
				for range 2 {
					got := exchange(t, transport, Request{Method: method, Target: "/"})
					require.Nil(t, got.err)
					require.Equal(t, test.body, got.body)
					require.NotContains(t, got.fields, "Link: x")
				}
				connections := 2
				if test.reusable {
					connections = 1
				}
				require.EqualValues(t, connections, upstream.accepted.Load())
			}
		})
	}
}

// The buffer is moved when a head grows behind an interim response: what Connection lists must be looked up afterwards.
func TestNominatedFieldsAfterAnInterimResponse(t *testing.T) {
	for _, padding := range []int{0, 700, 1500, 3000, 6000} {
		upstream := newScriptedUpstream(t, func(v *visit) {
			interim := "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 1000) + "\r\n\r\n"
			for v.head() != "" {
				v.send(interim + "HTTP/1.1 200 OK\r\nConnection: x-secret\r\n")
				v.send("X-Padding: " + strings.Repeat("y", padding) + "\r\nX-Kept: 1\r\n")
				v.send("X-Secret: hop\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		transport := newTransport(t, upstream.address())
		for range 2 {
			got := exchange(t, transport, Request{Method: "GET", Target: "/", Gateway: true})
			require.Nil(t, got.err)
			require.Len(t, got.fields, 3, padding)
			assert.Equal(t, []string{"X-Kept: 1", "Content-Length: 2"}, got.fields[1:], padding)
		}
	}
}

// Every row is one of the ways in which an upstream is broken or hostile: never a success, and the connection is gone.
func TestBrokenResponses(t *testing.T) {
	tests := map[string]struct {
		response string
		kind     Kind
		phase    Phase
	}{
		"garbage":                      {"<html>", KindProtocol, PhaseHead},
		"nothing":                      {"", KindClosed, PhaseHead},
		"half a head":                  {"HTTP/1.1 200 OK\r\nX: ", KindClosed, PhaseHead},
		"short body":                   {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12", KindClosed, PhaseBody},
		"cut between chunks":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", KindClosed, PhaseBody},
		"cut in a chunk":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", KindClosed, PhaseBody},
		"cut in a chunk size":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", KindClosed, PhaseBody},
		"no last CRLF":                 {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", KindClosed, PhaseBody},
		"two lengths":                  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"length list":                  {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", KindProtocol, PhaseHead},
		"length sign":                  {"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", KindProtocol, PhaseHead},
		"length empty":                 {"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", KindProtocol, PhaseHead},
		"length overflow":              {"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok", KindProtocol, PhaseHead},
		"length and encoding":          {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", KindProtocol, PhaseHead},
		"encoding and length":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", KindProtocol, PhaseHead},
		"encoding twice":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", KindProtocol, PhaseHead},
		"encoding list":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", KindProtocol, PhaseHead},
		"encoding padded":              {"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", KindProtocol, PhaseHead},
		"HTTP/1.0 with encoding":       {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", KindProtocol, PhaseHead},
		"chunk size prefix":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", KindProtocol, PhaseBody},
		"chunk size blank":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nok\r\n0\r\n\r\n", KindProtocol, PhaseBody},
		"chunk size empty":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nok\r\n0\r\n\r\n", KindProtocol, PhaseBody},
		"chunk size huge":              {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok\r\n0\r\n\r\n", KindProtocol, PhaseBody},
		"chunk line LF":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", KindProtocol, PhaseBody},
		"chunk data without end":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n", KindProtocol, PhaseBody},
		"chunk extension CR":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\rb\r\nok\r\n0\r\n\r\n", KindProtocol, PhaseBody},
		"chunk extensions":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 4000)+"\r\nx\r\n", 5) + "0\r\n\r\n", KindProtocol, PhaseBody},
		"endless trailers":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: 123456789\r\n", 1000), KindProtocol, PhaseBody},
		"bare LF":                      {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", KindProtocol, PhaseHead},
		"control character in a value": {"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"NUL in a value":               {"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"CR in a value":                {"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"control character in reason":  {"HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"empty name":                   {"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"no colon":                     {"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"blank in a name":              {"HTTP/1.1 200 OK\r\nX Y: 1\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"blank before the colon":       {"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", KindProtocol, PhaseHead},
		"fold":                         {"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"first line blank":             {"HTTP/1.1 200 OK\r\n X: 1\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"status 000":                   {"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"status 999":                   {"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"status 2x0":                   {"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"status 2000":                  {"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"HTTP/2.0":                     {"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"HTTP/1.2":                     {"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"http/1.1":                     {"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", KindProtocol, PhaseHead},
		"101 unasked":                  {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", KindProtocol, PhaseHead},
		"endless interim":              {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 17) + okResponse, KindProtocol, PhaseHead},
		"interim with a body":          {"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok" + okResponse, KindProtocol, PhaseHead},
		"head of 1 MB":                 {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", KindProtocol, PhaseHead},
		"501 fields":                   {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: 1\r\n", 501) + "\r\n", KindProtocol, PhaseHead},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			upstream := newScriptedUpstream(t, func(v *visit) {
				if v.head() == "" {
					return
				}
				if v.number > 1 {
					v.send(okResponse)
					v.untilClosed()
					return
				}
				v.send(test.response)
				if test.kind == KindProtocol {
					v.untilClosed() // the verdict must not wait for the end
				}
			})
			transport := newTransport(t, upstream.address())
			got := exchange(t, transport, get("/"))
			require.NotNil(t, got.err, "status %d, body %.50q", got.status, got.body)
			assert.Equal(t, test.kind, got.err.Kind, got.err)
			assert.Equal(t, test.phase, got.err.Phase, got.err)
			assert.True(t, got.err.Sent)
			assert.Equal(t, test.response != "", got.err.Responded)
			assert.EqualValues(t, 1, upstream.accepted.Load(), "an attempt was repeated")
			after := exchange(t, transport, get("/after"))
			require.Nil(t, after.err)
			assert.Equal(t, "ok", after.body)
			assert.EqualValues(t, 2, upstream.accepted.Load(), "the broken connection was used again")
		})
	}
}

func TestUnsolicitedBytesEndTheConnection(t *testing.T) {
	tests := map[string]string{
		"bytes behind the body":    okResponse + "XX",
		"a second response":        okResponse + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"body behind a HEAD reply": "HTTP/1.1 204 No Content\r\n\r\nevil",
	}
	for name, response := range tests {
		t.Run(name, func(t *testing.T) {
			upstream := newScriptedUpstream(t, func(v *visit) {
				if v.head() == "" {
					return
				}
				if v.number == 1 {
					v.send(response)
				} else {
					v.send(okResponse)
				}
				v.untilClosed()
			})
			transport := newTransport(t, upstream.address())
			require.Nil(t, exchange(t, transport, get("/")).err)
			got := exchange(t, transport, Request{Method: "POST", Target: "/"})
			require.Nil(t, got.err)
			assert.Equal(t, "ok", got.body)
			assert.EqualValues(t, 2, upstream.accepted.Load())
		})
	}
}

// The upstream closes, or speaks, while the connection is idle; the next request, a POST, must not be lost.
func TestIdleConnectionThatEndsIsReplaced(t *testing.T) {
	for name, end := range map[string]func(v *visit){
		"FIN":   func(v *visit) { _ = v.Close() },
		"RST":   func(v *visit) { v.reset() },
		"bytes": func(v *visit) { v.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			answered := make(chan struct{})
			ended := make(chan struct{}, 10)
			upstream := newScriptedUpstream(t, func(v *visit) {
				if v.head() == "" {
					return
				}
				v.send(okResponse)
				<-answered
				if v.number == 1 {
					end(v)
					ended <- struct{}{}
				}
				v.untilClosed()
			})
			transport := newTransport(t, upstream.address())
			require.Nil(t, exchange(t, transport, get("/")).err)
			close(answered)
			<-ended
			got := exchange(t, transport, Request{Method: "POST", Target: "/"})
			require.Nil(t, got.err)
			assert.EqualValues(t, 2, upstream.accepted.Load())
		})
	}
}

func TestCancelEndsTheExchangeAtOnce(t *testing.T) {
	received := make(chan struct{})
	closed := make(chan struct{})
	upstream := newScriptedUpstream(t, func(v *visit) {
		v.head()
		close(received)
		v.untilClosed()
		close(closed)
	})
	transport := newTransport(t, upstream.address())
	ex, r := begin(transport, get("/"))
	<-received
	ex.Cancel(2, errTest) // another use of the exchange
	select {
	case <-r.done:
		require.FailNow(t, "cancelled by a stale ID")
	default:
	}
	ex.Cancel(1, errTest)
	got := r.wait(t)
	require.NotNil(t, got.err)
	assert.Equal(t, KindCancelled, got.err.Kind)
	assert.ErrorIs(t, got.err, errTest)
	assert.Equal(t, PhaseHead, got.err.Phase)
	<-closed
	ex.Cancel(1, errTest) // over: ignored
	assert.EqualValues(t, 1, r.times.Load())
}

func TestEarlyResponseStopsTheUpload(t *testing.T) {
	upstream := newScriptedUpstream(t, func(v *visit) {
		v.head()
		v.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
		// Neither reads nor closes: the upload must not wait for either.
		<-v.t.Context().Done()
	})
	transport := newTransport(t, upstream.address())
	start := time.Now()
	got := exchange(t, transport, Request{Method: "POST", Target: "/", Body: make([]byte, 64<<20)})
	require.Nil(t, got.err)
	assert.Equal(t, 413, got.status)
	assert.Equal(t, "big", got.body)
	assert.Less(t, time.Since(start), 5*time.Second)
}

func TestLargeBodyArrivesWhole(t *testing.T) {
	body := []byte(strings.Repeat("0123456789abcdef", 1<<18)) // 4 MB
	upstream := newScriptedUpstream(t, func(v *visit) {
		for v.head() != "" {
			if v.body(len(body)) != string(body) {
				v.send("HTTP/1.1 500 Changed\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			v.send(okResponse)
		}
	})
	transport := newTransport(t, upstream.address())
	for range 3 {
		got := exchange(t, transport, Request{Method: "POST", Target: "/", Body: body})
		require.Nil(t, got.err)
		assert.Equal(t, 200, got.status)
	}
	assert.EqualValues(t, 1, upstream.accepted.Load())
}

func TestQueue(t *testing.T) {
	release := make(chan struct{})
	upstream := newScriptedUpstream(t, func(v *visit) {
		for v.head() != "" {
			<-release
			v.send(okResponse)
		}
	})
	transport := newTransport(t, upstream.address(), func(o *Options) { o.MaxConnections, o.MaxWaiting = 1, 2 })
	_, first := begin(transport, get("/1"))
	second, r2 := begin(transport, get("/2"))
	_, r3 := begin(transport, get("/3"))
	_, r4 := begin(transport, get("/4"))
	assert.Equal(t, KindExhausted, r4.wait(t).err.Kind)
	second.Cancel(1, errTest)
	got := r2.wait(t)
	assert.Equal(t, KindCancelled, got.err.Kind)
	assert.Equal(t, PhaseQueue, got.err.Phase)
	close(release)
	require.Nil(t, first.wait(t).err)
	require.Nil(t, r3.wait(t).err)
	assert.EqualValues(t, 1, upstream.accepted.Load())
}

// The slot of an exchange whose connection ends goes to the one that waits longest.
func TestQueueMovesOnWhenAConnectionEnds(t *testing.T) {
	upstream := newScriptedUpstream(t, func(v *visit) {
		if v.head() != "" {
			v.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	})
	transport := newTransport(t, upstream.address(), func(o *Options) { o.MaxConnections, o.MaxWaiting = 1, 20 })
	var receivers []*recorder
	for range 20 {
		_, r := begin(transport, get("/"))
		receivers = append(receivers, r)
	}
	for _, r := range receivers {
		require.Nil(t, r.wait(t).err)
	}
	assert.EqualValues(t, 20, upstream.accepted.Load())
}

func TestRefusedConnection(t *testing.T) {
	upstream := newScriptedUpstream(t, func(v *visit) {})
	address := upstream.address()
	upstream.listener.Close()
	got := exchange(t, newTransport(t, address), get("/"))
	require.NotNil(t, got.err)
	assert.Equal(t, KindConnect, got.err.Kind)
	assert.Equal(t, PhaseConnect, got.err.Phase)
	assert.False(t, got.err.Sent)
	assert.Contains(t, got.err.Error(), "connection refused")
}

func TestPanicOfTheReceiverBecomesAnError(t *testing.T) {
	upstream := newScriptedUpstream(t, func(v *visit) {
		v.head()
		v.send(okResponse)
		v.untilClosed()
	})
	transport := newTransport(t, upstream.address())
	r := &recorder{done: make(chan struct{}), responded: func() { panic("boom") }}
	transport.Start(&Exchange{Request: get("/"), Receiver: r, ID: 1})
	got := r.wait(t)
	require.NotNil(t, got.err)
	assert.Equal(t, KindInternal, got.err.Kind)
	assert.Contains(t, got.err.Error(), "boom")
}

func TestWholeBodyFromTheBuffer(t *testing.T) {
	for _, size := range []int{0, 1, bufferStart, bufferKeep, 3 * bufferKeep} {
		body := strings.Repeat("x", size)
		upstream := newScriptedUpstream(t, func(v *visit) {
			for v.head() != "" {
				_, _ = io.WriteString(v, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body))
			}
		})
		transport := newTransport(t, upstream.address())
		for range 3 {
			r := &recorder{done: make(chan struct{}), readBody: func(b *Body) (string, error) {
				data, err := b.Whole()
				if err != nil {
					return "", err
				}
				return string(data), nil
			}}
			transport.Start(&Exchange{Request: get("/"), Receiver: r, ID: 1})
			got := r.wait(t)
			require.Nil(t, got.err)
			assert.Equal(t, body, got.body)
		}
		assert.EqualValues(t, 1, upstream.accepted.Load())
	}
}

// Connections above MaxIdle and connections that ended are gone after a sweep; the most recent ones stay.
func TestSweep(t *testing.T) {
	release := make(chan struct{})
	upstream := newScriptedUpstream(t, func(v *visit) {
		v.head()
		<-release
		v.send(okResponse)
		if v.number <= 2 {
			return // closes
		}
		v.untilClosed()
	})
	transport := newTransport(t, upstream.address(), func(o *Options) { o.MaxIdle = 3 })
	var recorders []*recorder
	for range 8 {
		_, r := begin(transport, get("/"))
		recorders = append(recorders, r)
	}
	close(release)
	for _, r := range recorders {
		require.Nil(t, r.wait(t).err)
	}
	counts := func() [2]int { all, idle := transport.Connections(); return [2]int{all, idle} }
	require.Eventually(t, func() bool { transport.sweep(); return counts() == [2]int{6, 6} }, 2*time.Second, time.Millisecond)
	transport.mu.Lock()
	for c := range idleConns(transport) {
		c.idle -= quietTime
	}
	transport.mu.Unlock()
	transport.sweep()
	assert.Equal(t, [2]int{3, 3}, counts())
	transport.mu.Lock()
	for c := range idleConns(transport) {
		c.idle -= time.Minute
	}
	transport.mu.Unlock()
	transport.sweep()
	assert.Equal(t, [2]int{0, 0}, counts())
}

// idleConns yields the idle connections, the most recent first. The caller holds transport.mu.
func idleConns(transport *Transport) func(yield func(*conn) bool) {
	return func(yield func(*conn) bool) {
		_, idle := transport.idle.size()
		var taken []*conn
		for range idle {
			c, err := transport.idle.take()
			if err != nil {
				break
			}
			taken = append(taken, c)
		}
		for _, c := range taken {
			yield(c)
		}
		for i := len(taken) - 1; i >= 0; i-- {
			taken[i].lease.release()
		}
	}
}

// An upstream that says it closes idle connections after a second is not sent anything on one that may be closing.
func TestKeepAliveHintIsHonoured(t *testing.T) {
	upstream := newScriptedUpstream(t, func(v *visit) {
		for v.head() != "" {
			v.send("HTTP/1.1 200 OK\r\nKeep-Alive: max=100, timeout=1\r\nContent-Length: 0\r\n\r\n")
		}
	})
	transport := newTransport(t, upstream.address())
	for range 3 {
		require.Nil(t, exchange(t, transport, Request{Method: "POST", Target: "/"}).err)
	}
	assert.EqualValues(t, 3, upstream.accepted.Load())
}
