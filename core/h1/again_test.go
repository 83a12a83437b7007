package h1

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// A request meets the close of a connection that had been idle: its bytes were sent, and nobody knows whether they were
// read. One that may be sent again is, on another connection; any other fails and says that it was sent.
func TestARequestThatMeetsTheCloseOfItsConnection(t *testing.T) {
	for name, row := range map[string]struct {
		request Request
		again   bool
	}{
		"GET":               {Request{Method: "GET", Target: "/", Again: true}, true},
		"GET with a body":   {Request{Method: "GET", Target: "/", Body: []byte("hello"), Again: true}, true},
		"GET, large body":   {Request{Method: "GET", Target: "/", Body: make([]byte, 1<<20), Again: true}, true},
		"GET, not again":    {Request{Method: "GET", Target: "/"}, false},
		"POST":              {Request{Method: "POST", Target: "/", Body: []byte("hello")}, false},
		"GET with a source": {Request{Method: "GET", Target: "/", Source: &endedSource{}, Again: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			heads := make(chan int, 10)
			upstream := newScriptedUpstream(t, func(v *visit) {
				if v.number == 1 {
					v.head()
					v.send(okResponse)
				}
				if v.head() == "" {
					return
				}
				heads <- v.number
				if v.number == 1 {
					return // the request has been read, and the connection closes under it
				}
				v.send(okResponse)
			})
			transport := newTransport(t, upstream.address())
			require.Nil(t, exchange(t, transport, get("/first")).err)
			got := exchange(t, transport, row.request)
			require.Equal(t, 1, <-heads)
			if row.again {
				require.Nil(t, got.err)
				require.Equal(t, "ok", got.body)
				require.Equal(t, 2, <-heads)
			} else {
				require.NotNil(t, got.err)
				require.Equal(t, KindClosed, got.err.Kind)
				require.True(t, got.err.Sent && got.err.Reused && !got.err.Responded)
				require.Empty(t, heads, "nothing is sent twice")
			}
		})
	}
}

// A connection that is new, or that has answered with some byte, is no reason to send anything again.
func TestARequestIsNotSentAgainAfterAByteOfTheResponse(t *testing.T) {
	for name, part := range map[string]string{"new connection": "", "part of a head": "HTTP/1.1 2"} {
		t.Run(name, func(t *testing.T) {
			upstream := newScriptedUpstream(t, func(v *visit) {
				if part != "" && v.number == 1 {
					v.head()
					v.send(okResponse)
				}
				if v.head() != "" {
					v.send(part)
				}
			})
			transport := newTransport(t, upstream.address())
			if part != "" {
				require.Nil(t, exchange(t, transport, get("/first")).err)
			}
			got := exchange(t, transport, Request{Method: "GET", Target: "/", Again: true})
			require.NotNil(t, got.err)
			require.Equal(t, KindClosed, got.err.Kind)
			require.EqualValues(t, 1, upstream.accepted.Load())
		})
	}
}

// endedSource is the body of a request that has none.
type endedSource struct{}

func (*endedSource) Next() ([]byte, error) { return nil, io.EOF }
func (*endedSource) Stop()                 {}
func (*endedSource) Close()                {}
