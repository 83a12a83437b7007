package core

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
