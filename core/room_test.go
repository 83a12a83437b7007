package core

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/velithon/velithon-proxy/core/breaker"
)

func TestARequestWaitsForAnUpstreamToBecomeUsable(t *testing.T) {
	u := fakes(t, 2)
	pool, now := timedPool(t, u, func(c *Config) { c.MaxFailures, c.WaitForHealthyMS = 1, 5_000 })
	u[0].hangsUp()
	u[1].hangsUp()
	_, _ = get(pool)
	_, _ = get(pool)
	require.Equal(t, []string{"open", "open"}, states(pool))
	u[0].status(200)
	u[1].status(200)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, err := get(pool)
			assert.Nil(t, err)
		})
	}
	eventually(t, func() bool { return pool.Snapshot().Waiting == 20 })
	now.advance(time.Minute)
	group.Wait()
	assert.Zero(t, pool.Snapshot().Waiting)
}

// The one place of a half-open breaker is taken by a second probe, after the caller of the first has left: the state does
// not change, and whoever waits must neither spin nor wait longer than allowed.
func TestARequestWaitsOnlySoLongForAProbe(t *testing.T) {
	u := fakes(t, 1)
	pool, now := timedPool(t, u, func(c *Config) { c.MaxFailures, c.WaitForHealthyMS = 1, 60 })
	u[0].hangsUp()
	_, _ = get(pool)
	release := make(chan struct{})
	u[0].holds(release)
	now.advance(time.Minute)
	before := u[0].requests.Load()
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error)
	go func() {
		_, err := pool.Do(ctx, Request{Method: "GET", Target: "/"})
		first <- err
	}()
	eventually(t, func() bool { return u[0].requests.Load() == before+1 })
	cancel()
	require.Equal(t, CodeCancelled, codeOf(t, <-first))
	second := make(chan *Error)
	go func() {
		_, err := get(pool)
		second <- err
	}()
	eventually(t, func() bool { return u[0].requests.Load() == before+2 })

	looks := 0
	pool.holding.ready = func() bool { looks++; return pool.usable() } // under the lock of the rooms
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			start := time.Now()
			_, err := get(pool)
			assert.Equal(t, CodeCircuitOpen, err.Code)
			assert.Less(t, time.Since(start), 5*time.Second)
		})
	}
	group.Wait()
	assert.Less(t, looks, 100)
	close(release)
	require.Nil(t, <-second)
}

// What timers run has no caller to tell: a panic there is counted, and holds nothing up.
func TestAPanicOfATimerEndsNothingElse(t *testing.T) {
	u := fakes(t, 1)
	pool, _ := timedPool(t, u, func(c *Config) { c.MaxFailures, c.WaitForHealthyMS = 1, 30 })
	u[0].hangsUp()
	_, _ = get(pool)
	before, once := Panics(), true
	pool.holding.ready = func() bool {
		if once {
			once = false
			panic("a bug")
		}
		return false
	}
	_, err := get(pool)
	require.Equal(t, CodeCircuitOpen, err.Code)
	require.Equal(t, before+1, Panics())
}

func TestARequestWaitsOnlySoLong(t *testing.T) {
	u := fakes(t, 1)
	pool, _ := timedPool(t, u, func(c *Config) { c.MaxFailures, c.WaitForHealthyMS, c.MaxWaiting = 1, 60, 1 })
	u[0].hangsUp()
	_, _ = get(pool)
	start := time.Now()
	done := make(chan *Error)
	go func() {
		_, err := get(pool)
		done <- err
	}()
	eventually(t, func() bool { return pool.Snapshot().Waiting == 1 })
	_, err := get(pool) // the room is full
	require.Equal(t, CodeCircuitOpen, err.Code)
	require.Equal(t, CodeCircuitOpen, (<-done).Code)
	require.GreaterOrEqual(t, time.Since(start), 60*time.Millisecond)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, failure := pool.Do(ctx, Request{Method: "GET", Target: "/"})
	assert.Equal(t, CodeCancelled, codeOf(t, failure))
	assert.Zero(t, pool.Snapshot().Waiting)
}

func TestOnlySoManyRequestsAreUnderWay(t *testing.T) {
	u := fakes(t, 2)
	var at, most atomic.Int32
	for _, upstream := range u {
		upstream.does(func(conn net.Conn, _ *http.Request) bool {
			now := at.Add(1)
			for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
			}
			time.Sleep(time.Millisecond)
			at.Add(-1)
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			return err == nil
		})
	}
	pool := poolOf(t, u, func(c *Config) { c.MaxInFlight, c.MaxWaiting = 7, 1000 })
	wave := func(leaving bool) {
		var group sync.WaitGroup
		for i := range 300 {
			group.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if leaving && i%3 == 0 { // their slots must not be lost, in the queue or elsewhere
					time.AfterFunc(time.Duration(i)*50*time.Microsecond, cancel)
				}
				_, err := pool.Do(ctx, Request{Method: "GET", Target: "/"})
				if err != nil {
					assert.Equal(t, CodeCancelled, codeOf(t, err))
				}
			})
		}
		group.Wait()
	}
	wave(false)
	assert.LessOrEqual(t, most.Load(), int32(7))
	wave(true) // the upstreams go on with what was given up: they do not see the limit
	eventually(t, func() bool { return pool.slots.Load() == 0 })
	assert.Zero(t, pool.Snapshot().Waiting)
}

// The slot of a request that is over is free for the next one, also if nobody may wait.
func TestASlotIsFreeBeforeTheCallerKnows(t *testing.T) {
	u := fakes(t, 1)
	pool := poolOf(t, u, func(c *Config) { c.MaxInFlight, c.MaxWaiting = 1, 0 })
	for range 300 {
		_, err := get(pool)
		require.Nil(t, err)
	}
}

// Calls that fail at once when they are let in do not pile up on the stack.
func TestManyWaitingCallsThatFailAtOnce(t *testing.T) {
	u := fakes(t, 1)
	release := make(chan struct{})
	u[0].holds(release)
	pool, _ := timedPool(t, u, func(c *Config) { c.MaxInFlight, c.MaxWaiting, c.MaxFailures = 1, 50_000, 1 })
	first := make(chan *Error)
	go func() {
		_, err := get(pool)
		first <- err
	}()
	eventually(t, func() bool { return u[0].requests.Load() == 1 })
	var refused sync.WaitGroup
	for range 20_000 {
		refused.Add(1)
		pool.Start(&Call{Request: Request{Method: "GET", Target: "/"}, ID: 1, Sink: doneSink(func(err *Error) {
			assert.Equal(t, CodeCircuitOpen, err.Code)
			refused.Done()
		})})
	}
	u[0].does(func(net.Conn, *http.Request) bool { return false })
	pool.members[0].breaker.Reset()
	var permit breaker.Permit
	_, _ = pool.members[0].breaker.Admit(&permit)
	permit.Failure("by hand")
	close(release)
	require.Nil(t, <-first)
	refused.Wait()
}

type doneSink func(err *Error)

func (doneSink) Respond(*Head, *Body) error { return nil }
func (doneSink) Cancelled()                 {}
func (d doneSink) Done(err *Error)          { d(err) }

func TestTheQueueOfThePoolIsBounded(t *testing.T) {
	u := fakes(t, 1)
	release := make(chan struct{})
	u[0].holds(release)
	pool := poolOf(t, u, func(c *Config) { c.MaxInFlight, c.MaxWaiting, c.PoolTimeoutMS = 1, 1, 50 })
	done := make(chan *Error, 2)
	for range 2 {
		go func() {
			_, err := get(pool)
			done <- err
		}()
	}
	eventually(t, func() bool { return pool.Snapshot().Waiting == 1 })
	_, err := get(pool)
	require.Equal(t, CodePoolExhausted, err.Code)
	require.Equal(t, time.Second, err.RetryAfter)
	require.Equal(t, CodePoolTimeout, (<-done).Code)
	close(release)
	require.Nil(t, <-done)
	eventually(t, func() bool { return pool.slots.Load() == 0 })
}
