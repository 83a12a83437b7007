package h1

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// fastUpstream answers every request with 100 bytes. It takes each read for one request, which holds for small ones that
// come one at a time.
func fastUpstream(tb testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("x", 100))
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 4096)
				for {
					if _, err := conn.Read(buffer); err != nil {
						return
					}
					_, _ = conn.Write(response)
				}
			}()
		}
	}()
	tb.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// again starts the same exchange anew each time it is done, n times.
type again struct {
	transport *Transport
	ex        Exchange
	left      int
	failed    *Error
	done      chan struct{}
}

func (a *again) Respond(_ *Head, body *Body) error {
	if _, err := body.Whole(); err != nil {
		return err
	}
	return nil
}

func (a *again) Cancelled() {}

func (a *again) Done(err *Error) {
	if a.left--; err != nil || a.left == 0 {
		a.failed = err
		a.done <- struct{}{}
		return
	}
	a.ex.ID++
	a.transport.Start(&a.ex)
}

func (a *again) run(n int) {
	a.left = n
	a.ex.ID++
	a.transport.Start(&a.ex)
	<-a.done
}

func newAgain(transport *Transport) *again {
	a := &again{transport: transport, done: make(chan struct{}, 1)}
	a.ex = Exchange{Request: Request{Method: "GET", Target: "/", Fields: fieldsOf("Accept", "*/*", "User-Agent", "bench")}, Receiver: a}
	return a
}

func TestExchangeDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops buffers at random under the race detector")
	}
	transport := NewTransport(Options{
		Network: "tcp", MaxHeadBytes: 64 << 10, MaxHeadFields: 500,
		Address: fastUpstream(t), Authority: "bench", ConnectTimeout: time.Second, KeepAlive: time.Minute,
		MaxConnections: 4, MaxIdle: 4, MaxWaiting: 4,
	})
	defer transport.Close()
	a := newAgain(transport)
	a.run(100) // connects, grows the buffers
	allocations := testing.AllocsPerRun(20, func() { a.run(100) })
	require.Nil(t, a.failed)
	require.Less(t, allocations, 10.0, "per 100 exchanges")
}

func BenchmarkExchange(b *testing.B) {
	address := fastUpstream(b)
	b.Run("h1", func(b *testing.B) {
		transport := NewTransport(Options{
			Network: "tcp", MaxHeadBytes: 64 << 10, MaxHeadFields: 500,
			Address: address, Authority: "bench", ConnectTimeout: time.Second, KeepAlive: time.Minute,
			MaxConnections: 4, MaxIdle: 4, MaxWaiting: 4,
		})
		defer transport.Close()
		a := newAgain(transport)
		a.run(10)
		b.ReportAllocs()
		b.ResetTimer()
		a.run(b.N)
		require.Nil(b, a.failed)
	})
	b.Run("fasthttp", func(b *testing.B) {
		client := &fasthttp.HostClient{
			Addr: address, MaxIdleConnDuration: time.Millisecond,
			Dial: func(address string) (net.Conn, error) { return net.Dial("tcp", address) },
		}
		request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		request.SetRequestURI("http://" + address + "/")
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, client.Do(request, response))
		}
	})
}
