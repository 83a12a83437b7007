package core

import (
	"bufio"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// repeat starts the same call anew each time it is done.
type repeat struct {
	pool   *Pool
	call   Call
	left   int
	failed *Error
	done   chan struct{}
}

func (r *repeat) Respond(_ *Head, body *Body) error {
	if _, err := body.Whole(); err != nil {
		return err
	}
	return nil
}

func (r *repeat) Cancelled() {}

func (r *repeat) Done(err *Error) {
	if r.left--; err != nil || r.left <= 0 {
		r.failed = err
		r.done <- struct{}{}
		return
	}
	r.call.ID++
	r.call.Started = time.Time{}
	r.pool.Start(&r.call)
}

func TestCallDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops buffers at random under the race detector")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		reader := bufio.NewReader(conn)
		response := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
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
	r := &repeat{pool: newPool(t, "http://"+listener.Addr().String()), done: make(chan struct{}, 1)}
	r.call = Call{Request: Request{Method: "GET", Target: "/"}, Sink: r, ID: 1}
	run := func() {
		r.left = 100
		r.call.ID++
		r.call.Started = time.Time{}
		r.pool.Start(&r.call)
		<-r.done
	}
	run() // connects, grows the buffers
	allocations := testing.AllocsPerRun(20, run)
	require.Nil(t, r.failed)
	require.Less(t, allocations, 10.0, "per 100 calls")
}
