package core

import (
	"context"
	"fmt"
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

// clock is the time of breakers, and moves only when it is told to.
type clock struct{ ahead atomic.Int64 }

var clockZero = time.Now()

func (c *clock) now() time.Time          { return clockZero.Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func timedPool(t *testing.T, upstreams []*fakeUpstream, change ...func(*Config)) (*Pool, *clock) {
	config := DefaultConfig()
	config.MaxRetries = 0
	for _, u := range upstreams {
		config.Targets = append(config.Targets, u.url())
	}
	for _, c := range change {
		c(&config)
	}
	time := &clock{}
	pool, err := newPoolAt(config, time.now)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, time
}

func TestTheBreakerOfOneUpstream(t *testing.T) {
	u := fakes(t, 1)
	pool, now := timedPool(t, u)
	u[0].hangsUp()
	for range 5 {
		require.Equal(t, []string{"closed"}, states(pool))
		_, err := send(pool, Request{Method: "POST", Target: "/"})
		require.Equal(t, CodeUpstreamClosed, err.Code)
	}
	require.Equal(t, []string{"open"}, states(pool))
	opened := u[0].opened.Load()
	for range 10 { // B3: nothing is sent
		_, err := get(pool)
		require.Equal(t, CodeCircuitOpen, err.Code)
		require.Equal(t, time.Minute, err.RetryAfter)
	}
	now.advance(time.Minute - 1)
	_, err := get(pool)
	require.Equal(t, CodeCircuitOpen, err.Code)
	require.Equal(t, time.Duration(1), err.RetryAfter)
	require.Equal(t, opened, u[0].opened.Load())
	now.advance(1)
	_, err = get(pool) // the probe fails
	require.Equal(t, CodeUpstreamClosed, err.Code)
	require.Equal(t, []string{"open"}, states(pool))
	now.advance(time.Minute)
	u[0].status(200)
	_, err = get(pool)
	require.Nil(t, err)
	require.Equal(t, []string{"closed"}, states(pool))
	assert.Equal(t, opened+2, u[0].opened.Load())
	assert.EqualValues(t, 11, pool.Snapshot().Refused)
}

// B4: one request tries a half-open breaker, the others are refused meanwhile; B6: its caller may leave.
func TestOneRequestTriesAHalfOpenBreaker(t *testing.T) {
	u := fakes(t, 1)
	pool, now := timedPool(t, u, func(c *Config) { c.MaxFailures, c.RecoveryTimeoutMS = 1, 10_000 })
	u[0].hangsUp()
	_, _ = get(pool)
	release := make(chan struct{})
	u[0].holds(release)
	now.advance(time.Minute)
	before := u[0].requests.Load()
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		probe := make(chan error)
		go func() {
			_, err := pool.Do(ctx, Request{Method: "GET", Target: "/"})
			probe <- err
		}()
		eventually(t, func() bool { return u[0].requests.Load() == before+1 })
		for range 5 {
			_, err := get(pool)
			require.Equal(t, CodeCircuitOpen, err.Code)
			require.LessOrEqual(t, err.RetryAfter, 10*time.Second, "its limit is longer, but it may report any moment")
		}
		cancel()
		require.Equal(t, CodeCancelled, codeOf(t, <-probe))
		before++
	}
	close(release)
	u[0].status(200)
	_, err := get(pool)
	require.Nil(t, err)
	assert.Equal(t, []string{"closed"}, states(pool))
}

// B8, B9: what counts, and when.
func TestWhatABreakerCounts(t *testing.T) {
	reply := func(head string) func(u *fakeUpstream) {
		return func(u *fakeUpstream) {
			u.does(func(conn net.Conn, _ *http.Request) bool {
				_, _ = io.WriteString(conn, head)
				return false
			})
		}
	}
	status := func(status int) func(u *fakeUpstream) { return func(u *fakeUpstream) { u.status(status) } }
	for name, row := range map[string]struct {
		upstream func(u *fakeUpstream)
		change   func(*Config)
		counts   bool
	}{
		"refused":       {(*fakeUpstream).down, nil, true},
		"hangs up":      {(*fakeUpstream).hangsUp, nil, true},
		"no HTTP":       {reply("SSH-2.0-x\r\n\r\n"), nil, true},
		"cut off":       {reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), nil, true},
		"200":           {status(200), nil, false},
		"400":           {status(400), nil, false},
		"404":           {status(404), nil, false},
		"429":           {status(429), nil, false},
		"500":           {status(500), nil, false},
		"502":           {status(502), nil, true},
		"503":           {status(503), nil, true},
		"504":           {status(504), nil, true},
		"500 by option": {status(500), func(c *Config) { c.BreakerStatuses = []int{500} }, true},
		"503 by option": {status(503), func(c *Config) { c.BreakerStatuses = []int{500} }, false},
		"too large":     {status(200), func(c *Config) { c.MaxResponseBody = 3 }, false},
		"first byte":    {func(u *fakeUpstream) { u.holds(make(chan struct{})) }, func(c *Config) { c.FirstByteTimeoutMS = 20 }, true},
		"total timeout": {func(u *fakeUpstream) { u.holds(make(chan struct{})) }, func(c *Config) { c.TimeoutMS = 20 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			u := newFakeUpstream(t)
			change := func(c *Config) {
				c.MaxFailures = 1
				if row.change != nil {
					row.change(c)
				}
			}
			if name == "first byte" || name == "total timeout" {
				held := make(chan struct{})
				defer close(held)
				u.holds(held)
			} else {
				row.upstream(u)
			}
			pool, _ := timedPool(t, []*fakeUpstream{u}, change)
			_, _ = get(pool)
			want := "closed"
			if row.counts {
				want = "open"
			}
			assert.Equal(t, []string{want}, states(pool))
		})
	}
}

// B8: requests that never came as far as the upstream say nothing about it.
// paced is a body of which one piece comes at once, and nothing more, or without end.
type paced struct {
	first   []byte
	endless bool
	stop    chan struct{}
	once    sync.Once
}

func (p *paced) Next() ([]byte, error) {
	if piece := p.first; piece != nil {
		if !p.endless {
			p.first = nil
		}
		return piece, nil
	}
	<-p.stop
	return nil, io.ErrUnexpectedEOF
}
func (p *paced) Stop()  { p.once.Do(func() { close(p.stop) }) }
func (p *paced) Close() {}

// A deadline that passes while the caller's next piece is waited for says nothing about the upstream; one that passes while
// the upstream takes nothing does.
func TestASlowCallerOpensNoBreaker(t *testing.T) {
	for name, row := range map[string]struct {
		change  func(*Config)
		endless bool
		code    Code
		state   string
	}{
		"the caller":       {func(c *Config) { c.TimeoutMS = 50 }, false, CodeTotalTimeout, "closed"},
		"the caller, once": {func(c *Config) { c.TryTimeoutMS = 50 }, false, CodeReadTimeout, "closed"},
		"the upstream":     {func(c *Config) { c.TimeoutMS = 50 }, true, CodeTotalTimeout, "open"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes a little for it
			require.NoError(t, err)
			defer func() { _ = listener.Close() }()
			u := &fakeUpstream{address: listener.Addr().String()}
			pool, _ := timedPool(t, []*fakeUpstream{u}, func(c *Config) { c.MaxFailures = 1 }, row.change)
			source := &paced{first: make([]byte, 4096), endless: row.endless, stop: make(chan struct{})}
			_, failure := send(pool, Request{Method: "POST", Target: "/", Source: source})
			require.NotNil(t, failure)
			assert.Equal(t, row.code, failure.Code)
			assert.Equal(t, !row.endless, failure.Source)
			assert.Equal(t, []string{row.state}, states(pool))
		})
	}
}

func TestWhatIsRefusedHereIsNotCounted(t *testing.T) {
	u := fakes(t, 1)
	pool, _ := timedPool(t, u, func(c *Config) { c.MaxFailures = 1 })
	for _, request := range []Request{{Method: "GET", Target: "x"}, {Method: "a b", Target: "/"}, {Method: "GET", Target: "/", Fields: lines("a b", "c")}} {
		_, err := send(pool, request)
		require.NotNil(t, err)
	}
	assert.Equal(t, []string{"closed"}, states(pool))
	assert.Zero(t, u[0].requests.Load())
}

// B9: success is a body that was read to its end. Until then a half-open breaker stays so.
func TestSuccessIsTheEndOfTheBody(t *testing.T) {
	u := fakes(t, 1)
	pool, now := timedPool(t, u, func(c *Config) { c.MaxFailures = 1 })
	u[0].hangsUp()
	_, _ = get(pool)
	now.advance(time.Minute)
	more := make(chan struct{})
	u[0].does(func(conn net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
		<-more
		_, _ = io.WriteString(conn, "lf")
		return true
	})
	done := make(chan *Error)
	go func() {
		_, err := get(pool)
		done <- err
	}()
	eventually(t, func() bool { return u[0].requests.Load() == 2 })
	time.Sleep(20 * time.Millisecond) // the head has arrived
	require.Equal(t, []string{"half_open"}, states(pool))
	close(more)
	require.Nil(t, <-done)
	require.Equal(t, []string{"closed"}, states(pool))
}

// B11, B12: upstreams are independent, and an open breaker is not asked while another upstream can be used.
func TestAnOpenBreakerIsLeftAlone(t *testing.T) {
	u := fakes(t, 3)
	pool, now := timedPool(t, u, func(c *Config) { c.MaxFailures, c.MaxRetries = 2, 3 })
	u[1].hangsUp()
	for range 30 {
		_, err := get(pool)
		require.Nil(t, err)
	}
	require.Equal(t, []string{"closed", "open", "closed"}, states(pool))
	require.EqualValues(t, 2, u[1].requests.Load())
	for i := range 3 { // B12: all of them
		u[i].hangsUp()
	}
	for range 8 {
		_, _ = send(pool, Request{Method: "POST", Target: "/"})
	}
	require.Equal(t, []string{"open", "open", "open"}, states(pool))
	_, err := get(pool)
	require.Equal(t, CodeNoHealthyTarget, err.Code)
	require.Equal(t, time.Minute, err.RetryAfter)
	for i := range 3 {
		u[i].status(200)
	}
	now.advance(time.Minute)
	for range 50 { // each choice begins anywhere
		_, err := get(pool)
		require.Nil(t, err)
	}
	require.Equal(t, []string{"closed", "closed", "closed"}, states(pool))
}

func TestPanicUsesAllUpstreams(t *testing.T) {
	u := fakes(t, 4)
	pool, _ := timedPool(t, u, func(c *Config) { c.MaxFailures, c.PanicThreshold = 1, 0.5 })
	for i := range 3 {
		u[i].hangsUp()
	}
	for range 12 {
		_, _ = get(pool)
	}
	require.Equal(t, []string{"open", "open", "open", "closed"}, states(pool))
	before := [4]int32{}
	for i := range u {
		before[i] = u[i].requests.Load()
		u[i].status(200)
	}
	for range 40 { // one of four can be used, which is less than half
		_, err := get(pool)
		require.Nil(t, err)
	}
	for i := range u {
		assert.Equal(t, before[i]+10, u[i].requests.Load())
	}
}

// B12: so many upstreams are kept out of use, but always one.
func TestBreakersEjectOnlySoMany(t *testing.T) {
	for share, most := range map[float64]int{0: 1, 0.4: 1, 0.5: 2, 1: 4} {
		u := fakes(t, 4)
		pool, now := timedPool(t, u, func(c *Config) { c.MaxFailures, c.BreakerMaxEjected = 1, share })
		for _, upstream := range u {
			upstream.hangsUp()
		}
		for range 60 {
			_, _ = get(pool)
			now.advance(time.Millisecond)
		}
		require.Equal(t, []string{"open", "open", "open", "open"}, states(pool))
		used := 0
		before := hits(u)
		for range 60 {
			_, _ = get(pool)
		}
		for i, after := range hits(u) {
			if after > before[i] {
				used++
			}
		}
		assert.Equal(t, 4-most, used, "share %v", share)
	}
}

func TestBackupsServeWhileNoTargetCan(t *testing.T) {
	u := fakes(t, 3)
	pool, now := timedPool(t, u[:2], func(c *Config) { c.Backups, c.MaxFailures = []string{u[2].url()}, 1 })
	for range 10 {
		_, err := get(pool)
		require.Nil(t, err)
	}
	require.Zero(t, u[2].requests.Load())
	u[0].hangsUp()
	u[1].hangsUp()
	_, _ = get(pool)
	_, _ = get(pool)
	for range 5 {
		response, err := get(pool)
		require.Nil(t, err)
		require.Equal(t, u[2].address, string(response.Body))
	}
	u[0].status(200)
	u[1].status(200)
	now.advance(time.Minute)
	for range 4 {
		response, err := get(pool)
		require.Nil(t, err)
		require.NotEqual(t, u[2].address, string(response.Body))
	}
}

func TestSlowStart(t *testing.T) {
	u := fakes(t, 2)
	pool, now := timedPool(t, u[:1], func(c *Config) { c.SlowStartMS = 60_000 })
	_, err := pool.AddTarget(u[1].url(), 1, false, -1)
	require.NoError(t, err)
	count := func() int32 {
		before := u[1].requests.Load()
		for range 110 {
			_, err := get(pool)
			require.Nil(t, err)
		}
		return u[1].requests.Load() - before
	}
	assert.EqualValues(t, 10, count(), "a tenth of the other's share")
	now.advance(30 * time.Second)
	half := count()
	assert.InDelta(t, 110.0/3, float64(half), 2)
	now.advance(31 * time.Second)
	assert.EqualValues(t, 55, count())
}

func TestConsistentHashKeysComeFromWhereTheOptionSays(t *testing.T) {
	u := fakes(t, 5)
	for on, request := range map[string]func(key string) (Request, []byte){
		"key":           func(key string) (Request, []byte) { return Request{}, []byte(key) },
		"header:X-User": func(key string) (Request, []byte) { return Request{Fields: lines("x-USER", key)}, nil },
		"cookie:sid": func(key string) (Request, []byte) {
			return Request{Fields: lines("Cookie", "a=b; sid="+key+"; c")}, nil
		},
	} {
		pool := poolOf(t, u, func(c *Config) { c.Strategy, c.HashOn = "consistent_hash", on })
		used := map[string]bool{}
		for user := range 50 {
			var target string
			for range 5 {
				request, key := request(fmt.Sprint("user ", user))
				request.Method, request.Target = "GET", "/"
				sink := &collector{done: make(chan struct{})}
				pool.Start(&Call{Request: request, Key: key, Sink: sink, ID: 1})
				<-sink.done
				require.Nil(t, sink.err)
				got := string(sink.response.Body)
				require.Contains(t, []string{"", target}, map[bool]string{true: "", false: got}[target == ""], on)
				target = got
			}
			used[target] = true
		}
		assert.Len(t, used, 5, on)
	}
}

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
