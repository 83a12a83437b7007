package core

import (
	"bufio"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/velithon/velithon-proxy/core/h1"
)

// okUpstream answers every request with two bytes.
func okUpstream(tb testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = listener.Close() })
	response := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				for {
					line, err := reader.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						_, _ = conn.Write(response)
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// exchanges starts the same exchange anew each time it is done: a call without its pool.
type exchanges struct {
	transport *h1.Transport
	exchange  h1.Exchange
	left      int
	done      chan struct{}
}

func (e *exchanges) Respond(_ *h1.Head, body *h1.Body) error {
	if _, err := body.Whole(); err != nil {
		return err
	}
	return nil
}

func (e *exchanges) Cancelled() {}

func (e *exchanges) Done(err *h1.Error) {
	if e.left--; err != nil || e.left <= 0 {
		e.done <- struct{}{}
		return
	}
	e.exchange.ID++
	e.transport.Start(&e.exchange)
}

// cpu is the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// What a pool adds to an exchange: picking, the breaker, the budget, the deadline. Compare the figures of cpu-ns/op.
func BenchmarkCall(b *testing.B) {
	request := Request{Method: "GET", Target: "/"}
	measure := func(b *testing.B, run func(n int)) {
		run(100)
		b.ReportAllocs()
		b.ResetTimer()
		before := cpu(b)
		run(b.N)
		b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	}
	b.Run("exchange", func(b *testing.B) {
		config := DefaultConfig()
		options := config.transportOptions()
		target, err := ParseTarget(okUpstream(b))
		require.NoError(b, err)
		options.Network, options.Address, options.Authority = target.Network, target.Address, target.Host
		e := &exchanges{transport: h1.NewTransport(options), done: make(chan struct{}, 1)}
		defer e.transport.Close()
		e.exchange = h1.Exchange{Request: request, Receiver: e, ID: 1}
		measure(b, func(n int) {
			e.left = n
			e.exchange.ID++
			e.transport.Start(&e.exchange)
			<-e.done
		})
	})
	for _, targets := range []int{1, 3, 10} {
		b.Run("pool of "+strconv.Itoa(targets), func(b *testing.B) {
			config := DefaultConfig()
			for range targets {
				config.Targets = append(config.Targets, okUpstream(b))
			}
			pool, err := NewPool(config)
			require.NoError(b, err)
			defer pool.Close()
			r := &repeat{pool: pool, done: make(chan struct{}, 1)}
			r.call = Call{Request: request, Sink: r, ID: 1}
			measure(b, func(n int) {
				r.left = n
				r.call.ID++
				r.call.Started = time.Time{}
				pool.Start(&r.call)
				<-r.done
			})
			require.Nil(b, r.failed)
		})
	}
}

func BenchmarkNewPoolOfTenThousand(b *testing.B) {
	config := DefaultConfig()
	for i := range 10_000 {
		config.Targets = append(config.Targets, "http://10.0."+strconv.Itoa(i/250)+"."+strconv.Itoa(i%250+1))
	}
	for b.Loop() {
		pool, err := NewPool(config)
		require.NoError(b, err)
		pool.Close()
	}
}
