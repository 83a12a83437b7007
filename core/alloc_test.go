package core

import (
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
	r := &repeat{pool: newPool(t, okUpstream(t)), done: make(chan struct{}, 1)}
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
