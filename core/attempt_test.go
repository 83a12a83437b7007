package core

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/velithon/velithon-proxy/core/h1"
)

func TestAnUpstreamThatIsDownIsTriedOnceAndAnotherOneAnswers(t *testing.T) {
	u := fakes(t, 3)
	u[0].down()
	u[1].down()
	pool := poolOf(t, u, func(c *Config) { c.Strategy = "first" })
	for _, method := range []string{"GET", "POST"} { // nothing was sent: any method
		response, err := send(pool, Request{Method: method, Target: "/", Body: []byte("x")})
		require.Nil(t, err)
		assert.Equal(t, u[2].address, string(response.Body))
		require.Len(t, response.Attempts, 3)
		// The first is the first, the other two come in any order but never the same one again.
		assert.Equal(t, 0, response.Attempts[0].Upstream)
		for _, attempt := range response.Attempts[:2] {
			assert.Equal(t, CodeConnect, attempt.Err.Code)
			assert.False(t, attempt.Err.Sent)
			assert.True(t, attempt.Retried)
			assert.Equal(t, "nothing was sent", attempt.Reason)
		}
		assert.Equal(t, Attempt{Upstream: 2, Target: u[2].url(), Status: 200, Took: response.Attempts[2].Took}, response.Attempts[2])
	}
	assert.EqualValues(t, 2, u[2].requests.Load())
}

// Row F1: each upstream is tried once, and that is it.
func TestF1AllDownFailsAtOnce(t *testing.T) {
	u := fakes(t, 3)
	for _, upstream := range u {
		upstream.down()
	}
	pool := poolOf(t, u)
	start := time.Now()
	response, err := get(pool)
	require.NotNil(t, err)
	assert.Equal(t, CodeConnect, err.Code)
	assert.Len(t, response.Attempts, 3)
	assert.Equal(t, "no other upstream is left to connect to", response.Attempts[2].Reason)
	assert.Less(t, time.Since(start), time.Second)
}

// A request that may have reached an upstream is sent again only if its method allows that.
func TestWhatIsSentTwice(t *testing.T) {
	for name, row := range map[string]struct {
		request Request
		change  func(*Config)
		again   bool
	}{
		"GET":              {Request{Method: "GET"}, nil, true},
		"HEAD":             {Request{Method: "HEAD"}, nil, true},
		"POST":             {Request{Method: "POST", Body: []byte("x")}, nil, false},
		"PATCH":            {Request{Method: "PATCH", Body: []byte("x")}, nil, false},
		"PUT":              {Request{Method: "PUT", Body: []byte("x")}, nil, false},
		"PUT by option":    {Request{Method: "PUT", Body: []byte("x")}, func(c *Config) { c.RetryMethods = []string{"PUT"} }, true},
		"another option":   {Request{Method: "PUT", Body: []byte("x")}, func(c *Config) { c.RetryMethods = []string{"DELETE"} }, false},
		"key":              {Request{Method: "POST", Fields: lines("Idempotency-Key", "1")}, nil, false},
		"key by option":    {Request{Method: "POST", Fields: lines("idempotency-KEY", "1")}, func(c *Config) { c.RetryIdempotencyKey = true }, true},
		"no key":           {Request{Method: "POST"}, func(c *Config) { c.RetryIdempotencyKey = true }, false},
		"large":            {Request{Method: "GET", Body: make([]byte, 64<<10+1)}, nil, false},
		"large enough":     {Request{Method: "GET", Body: make([]byte, 64<<10)}, nil, true},
		"large by option":  {Request{Method: "GET", Body: make([]byte, 64<<10+1)}, func(c *Config) { c.RetryMaxBody = 1 << 20 }, true},
		"no retries":       {Request{Method: "GET"}, func(c *Config) { c.MaxRetries = 0 }, false},
		"from a source":    {Request{Method: "GET", Source: &pieces{"a", "b"}}, nil, false},
		"a budget of none": {Request{Method: "GET"}, func(c *Config) { c.RetryBudget, c.RetryBudgetMin = 0, 0 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := fakes(t, 2)
			u[0].hangsUp()
			pool := poolOf(t, u, func(c *Config) {
				c.Strategy = "first"
				if row.change != nil {
					row.change(c)
				}
			})
			row.request.Target = "/"
			response, err := send(pool, row.request)
			assert.EqualValues(t, 1, u[0].requests.Load())
			if row.again {
				require.Nil(t, err)
				assert.EqualValues(t, 1, u[1].requests.Load())
				assert.Len(t, response.Attempts, 2)
			} else {
				require.NotNil(t, err)
				assert.Equal(t, CodeUpstreamClosed, err.Code)
				assert.True(t, err.Sent)
				assert.Zero(t, u[1].requests.Load())
				require.Len(t, response.Attempts, 1)
				assert.NotEmpty(t, response.Attempts[0].Reason)
				assert.False(t, response.Attempts[0].Retried)
			}
		})
	}
}

func lines(pairs ...string) (fields Fields) {
	for i := 0; i < len(pairs); i += 2 {
		fields = h1.AppendField(fields, pairs[i], pairs[i+1])
	}
	return fields
}

// pieces is a Source.
type pieces []string

func (p *pieces) Next() ([]byte, error) {
	if len(*p) == 0 {
		return nil, io.EOF
	}
	piece := (*p)[0]
	*p = (*p)[1:]
	return []byte(piece), nil
}

func (p *pieces) Stop()  {}
func (p *pieces) Close() {}

// As long as there is no connection nothing is taken from a source.
func TestABodyFromASourceMovesOnFromAnUpstreamThatIsDown(t *testing.T) {
	u := fakes(t, 2)
	u[0].down()
	got := make(chan string, 1)
	u[1].does(func(conn net.Conn, request *http.Request) bool {
		got <- strings.Join(request.TransferEncoding, ",")
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		return true
	})
	pool := poolOf(t, u, func(c *Config) { c.Strategy = "first" })
	_, err := send(pool, Request{Method: "POST", Target: "/", Source: &pieces{"some", "thing"}})
	require.Nil(t, err)
	assert.Equal(t, "chunked", <-got)
}

func TestNothingIsRetriedOnceTheResponseHasBegun(t *testing.T) {
	u := fakes(t, 2)
	u[0].does(func(conn net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		return false
	})
	pool := poolOf(t, u, func(c *Config) { c.Strategy = "first" })
	response, err := get(pool)
	require.NotNil(t, err)
	assert.Equal(t, CodeUpstreamClosed, err.Code)
	assert.Equal(t, "the response had begun", response.Attempts[0].Reason)
	assert.Zero(t, u[1].requests.Load())
}

func TestStatusesAreRetriedByOption(t *testing.T) {
	u := fakes(t, 2)
	u[0].status(503)
	first := func(c *Config) { c.Strategy = "first" }
	response, err := get(poolOf(t, u, first))
	require.Nil(t, err)
	assert.Equal(t, 503, response.Status, "not an option by default")

	pool := poolOf(t, u, first, func(c *Config) { c.RetryStatuses = []int{503} })
	response, err = get(pool)
	require.Nil(t, err)
	assert.Equal(t, 200, response.Status)
	require.Len(t, response.Attempts, 2)
	assert.Equal(t, 503, response.Attempts[0].Status)
	assert.Nil(t, response.Attempts[0].Err)
	assert.Equal(t, "the status is one that is retried", response.Attempts[0].Reason)

	// The connection of a small response that was held back is used again.
	opened := u[0].opened.Load()
	_, err = get(pool)
	require.Nil(t, err)
	assert.Equal(t, opened, u[0].opened.Load())

	// A request that has reached an upstream is not sent again for a status either.
	response, err = send(pool, Request{Method: "POST", Target: "/", Body: []byte("x")})
	require.Nil(t, err)
	assert.Equal(t, 503, response.Status)
	assert.Equal(t, u[0].address, string(response.Body))
}

func TestTheLastResponseIsHandedOnWhenRetriesAreUsedUp(t *testing.T) {
	u := fakes(t, 1)
	u[0].status(503)
	pool := poolOf(t, u, func(c *Config) { c.RetryStatuses, c.MaxRetries = []int{503}, 2 })
	response, err := get(pool)
	require.Nil(t, err)
	assert.Equal(t, 503, response.Status)
	assert.Equal(t, u[0].address, string(response.Body))
	assert.Len(t, response.Attempts, 3)
	assert.EqualValues(t, 3, u[0].requests.Load())
}

// A response cannot be had again: it is not thrown away for an attempt that nobody could make.
func TestAResponseIsHandedOnWhenItsFailureOpensTheLastBreaker(t *testing.T) {
	u := fakes(t, 1)
	u[0].status(503)
	pool := poolOf(t, u, func(c *Config) { c.RetryStatuses, c.MaxFailures = []int{503}, 1 })
	response, err := get(pool)
	require.Nil(t, err)
	assert.Equal(t, 503, response.Status)
	assert.Equal(t, u[0].address, string(response.Body))
	assert.Equal(t, []string{"open"}, states(pool))
	assert.Zero(t, pool.budget.Retries())
}

// Nor is it lost when breakers open in the pause before that attempt, for other requests.
func TestAResponseIsHandedOnWhenBreakersOpenBeforeItsRetry(t *testing.T) {
	u := fakes(t, 1)
	u[0].status(503, "Retry-After: 1")
	pool := poolOf(t, u, func(c *Config) { c.RetryStatuses, c.MaxFailures = []int{503}, 2 })
	first := make(chan Response)
	go func() {
		response, err := get(pool)
		assert.Nil(t, err)
		first <- response
	}()
	eventually(t, func() bool { return u[0].requests.Load() == 1 })
	response, err := get(pool)
	require.Nil(t, err)
	assert.Equal(t, 503, response.Status)
	require.Equal(t, []string{"open"}, states(pool))
	response = <-first
	assert.Equal(t, 503, response.Status)
	assert.Len(t, response.Attempts, 2)
	assert.EqualValues(t, 3, u[0].requests.Load())
	assert.Zero(t, pool.Snapshot().Refused)
	assert.Equal(t, []string{"open"}, states(pool), "what the last one met is not counted")
}

func TestALargeResponseThatIsHeldBackIsNotRead(t *testing.T) {
	u := fakes(t, 2)
	u[0].does(func(conn net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 503 No\r\nContent-Length: 1000000000\r\n\r\n")
		_, err := io.Copy(conn, zeros{})
		assert.Error(t, err)
		return false
	})
	pool := poolOf(t, u, func(c *Config) { c.Strategy, c.RetryStatuses = "first", []int{503} })
	response, err := get(pool)
	require.Nil(t, err)
	assert.Equal(t, u[1].address, string(response.Body))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRetryAfterIsHonoured(t *testing.T) {
	u := fakes(t, 1)
	answers := 0
	u[0].does(func(conn net.Conn, _ *http.Request) bool {
		if answers++; answers == 1 {
			_, _ = io.WriteString(conn, "HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
		} else {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		return true
	})
	pool := poolOf(t, u, func(c *Config) { c.RetryStatuses = []int{503} })
	start := time.Now()
	response, err := get(pool)
	require.Nil(t, err)
	assert.Equal(t, 200, response.Status)
	assert.GreaterOrEqual(t, time.Since(start), time.Second)

	u[0].status(503, "Retry-After: 11")
	response, err = get(pool)
	require.Nil(t, err)
	assert.Equal(t, 503, response.Status, "too long to wait for")
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	for value, want := range map[string]time.Duration{"0": 0, "120": 2 * time.Minute, " 3 ": 3 * time.Second} {
		got, found := retryAfter(lines("Retry-After", value))
		assert.True(t, found)
		assert.Equal(t, want, got, value)
	}
	for _, value := range []string{"", "-1", "1.5", "soon", "99999999999999999999"} {
		_, found := retryAfter(lines("Retry-After", value))
		assert.False(t, found, value)
	}
	got, found := retryAfter(lines("retry-after", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)))
	assert.True(t, found)
	assert.InDelta(t, time.Minute, got, float64(2*time.Second))
	got, found = retryAfter(lines("retry-after", "Mon, 01 Jan 2001 00:00:00 GMT"))
	assert.True(t, found)
	assert.Zero(t, got)
}

func TestASingleAttemptHasALimitOfItsOwn(t *testing.T) {
	u := fakes(t, 2)
	release := make(chan struct{})
	defer close(release)
	u[0].holds(release)
	pool := poolOf(t, u, func(c *Config) { c.Strategy, c.TryTimeoutMS = "first", 50 })
	response, err := get(pool)
	require.Nil(t, err)
	assert.Equal(t, u[1].address, string(response.Body))
	require.Len(t, response.Attempts, 2)
	assert.Equal(t, CodeReadTimeout, response.Attempts[0].Err.Code)

	_, err = send(pool, Request{Method: "POST", Target: "/"}) // it may have arrived
	require.NotNil(t, err)
	assert.Equal(t, CodeReadTimeout, err.Code)
}

// The limit of the first attempt must not end the second.
func TestEachAttemptHasALimitOfItsOwn(t *testing.T) {
	u := fakes(t, 2)
	release := make(chan struct{})
	defer close(release)
	u[0].holds(release)
	u[1].does(func(conn net.Conn, _ *http.Request) bool {
		time.Sleep(120 * time.Millisecond)
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return err == nil
	})
	pool := poolOf(t, u, func(c *Config) { c.Strategy, c.TryTimeoutMS = "first", 200 })
	for range 3 {
		response, err := get(pool)
		require.Nil(t, err)
		require.Len(t, response.Attempts, 2)
	}
}

// What an error says of the request is true of all attempts.
func TestAnErrorKnowsWhetherAnyAttemptWasSent(t *testing.T) {
	u := fakes(t, 2)
	u[0].hangsUp()
	u[1].down()
	pool := poolOf(t, u, func(c *Config) { c.Strategy = "first" })
	response, err := get(pool)
	require.NotNil(t, err)
	assert.Equal(t, CodeConnect, err.Code)
	assert.True(t, err.Sent)
	require.Len(t, response.Attempts, 2)
	assert.True(t, response.Attempts[0].Err.Sent)
	assert.False(t, response.Attempts[1].Err.Sent)
}

// A cancel that comes after an attempt has ended and before the next one begins keeps that from beginning.
func TestACancelBetweenTwoAttempts(t *testing.T) {
	u := fakes(t, 2)
	u[0].hangsUp()
	u[1].hangsUp()
	sink := &collector{done: make(chan struct{})}
	call := &Call{Request: Request{Method: "GET", Target: "/"}, Sink: sink, ID: 1}
	config := DefaultConfig()
	config.Targets, config.RetryBaseDelayMS, config.RetryMaxDelayMS = []string{u[0].url(), u[1].url()}, 0, 0
	armed := false
	pool, err := newPoolAt(config, func() time.Time { // the breaker asks when it counts the failure
		if armed {
			call.Cancel(1)
		}
		return time.Now()
	})
	require.NoError(t, err)
	defer pool.Close()
	armed = true
	pool.Start(call)
	<-sink.done
	require.Equal(t, CodeCancelled, sink.err.Code)
	assert.EqualValues(t, 1, u[0].requests.Load()+u[1].requests.Load())
}

// The deadline is one for all attempts, with the pauses between them.
func TestTheDeadlineIsOneOverAllAttempts(t *testing.T) {
	u := fakes(t, 1)
	u[0].hangsUp()
	pool := poolOf(t, u, func(c *Config) {
		c.TimeoutMS, c.MaxRetries, c.MaxFailures = 300, 10, 1000
		c.RetryBaseDelayMS, c.RetryMaxDelayMS = 60_000, 60_000
	})
	start := time.Now()
	response, err := get(pool)
	require.NotNil(t, err)
	assert.Less(t, time.Since(start), 2*time.Second)
	last := response.Attempts[len(response.Attempts)-1]
	if last.Retried { // the pause had begun before the deadline
		assert.Equal(t, CodeTotalTimeout, err.Code)
	} else {
		assert.Equal(t, "the deadline is too near", last.Reason)
		assert.Equal(t, CodeUpstreamClosed, err.Code)
	}
}

func TestNothingIsTriedAfterTheCallerLeft(t *testing.T) {
	u := fakes(t, 2)
	u[0].hangsUp()
	u[1].hangsUp()
	pool := poolOf(t, u, func(c *Config) {
		c.TimeoutMS, c.RetryBaseDelayMS, c.RetryMaxDelayMS, c.MaxFailures = 3_600_000, 60_000, 60_000, 1000
	})
	for range 20 { // in the pause, mostly
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		_, err := pool.Do(ctx, Request{Method: "GET", Target: "/"})
		assert.Equal(t, CodeCancelled, codeOf(t, err))
		cancel()
	}
	sent := u[0].requests.Load() + u[1].requests.Load()
	time.Sleep(50 * time.Millisecond)
	assert.Equal(t, sent, u[0].requests.Load()+u[1].requests.Load())
	assert.Zero(t, pool.budget.Retries())
	assert.Zero(t, pool.Snapshot().InFlight)
}

// Cancels come at any time between two attempts; each call ends exactly once, and nothing is left.
func TestCancelsBetweenAttempts(t *testing.T) {
	u := fakes(t, 2)
	u[0].hangsUp()
	u[1].hangsUp()
	pool := poolOf(t, u, func(c *Config) { c.MaxFailures, c.MaxRetries, c.RetryBudgetMin = 1_000_000, 10, 1000 })
	for i := range 400 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*5*time.Microsecond)
		_, err := pool.Do(ctx, Request{Method: "GET", Target: "/"})
		require.Error(t, err)
		cancel()
	}
	assert.Zero(t, pool.budget.Retries())
	assert.Zero(t, pool.attempts.Load())
	snapshot := pool.Snapshot()
	assert.Zero(t, snapshot.InFlight)
	for _, target := range snapshot.Targets {
		assert.Zero(t, target.InFlight)
	}
}

// Attempts that nothing can follow say so in words of their own.
func TestWhyAnAttemptWasTheLastOne(t *testing.T) {
	u := fakes(t, 1)
	release := make(chan struct{})
	u[0].holds(release)
	defer close(release)
	for why, run := range map[string]func(pool *Pool) Response{
		"the deadline passed": func(pool *Pool) Response {
			response, _ := get(pool)
			return response
		},
		"the caller left": func(pool *Pool) Response {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			response, _ := pool.Do(ctx, Request{Method: "GET", Target: "/"})
			return response
		},
		"the client was closed": func(pool *Pool) Response {
			time.AfterFunc(10*time.Millisecond, pool.Close)
			response, _ := get(pool)
			return response
		},
		"a body is larger than its limit": func(pool *Pool) Response {
			u[0].status(200)
			sink := &full{collector{done: make(chan struct{})}}
			call := &Call{Request: Request{Method: "GET", Target: "/"}, Sink: sink, ID: 1}
			pool.Start(call)
			<-sink.done
			return Response{Attempts: call.Attempts}
		},
	} {
		u[0].holds(release)
		response := run(poolOf(t, u, func(c *Config) { c.TimeoutMS = 100 }))
		require.Len(t, response.Attempts, 1, why)
		assert.Equal(t, why, response.Attempts[0].Reason)
		assert.False(t, response.Attempts[0].Retried)
	}
}

// full is a caller that cannot take a body.
type full struct{ collector }

func (*full) Respond(*Head, *Body) error { return ErrTooLarge }

// An upstream may be removed between the choice and the start, which takes back the number of the attempt: its limits must
// still not be those of the next exchange.
func TestEachExchangeOfACallHasAnIDOfItsOwn(t *testing.T) {
	pool := poolOf(t, fakes(t, 1))
	call := &Call{ID: 7, pool: pool}
	call.begin()
	seen := map[uint64]bool{}
	for range 5 {
		call.attempt.number = 1
		require.True(t, call.arm(pool.members[0].transport))
		seen[call.exchangeID()] = true
	}
	assert.Len(t, seen, 5)
}
