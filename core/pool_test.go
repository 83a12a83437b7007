package core

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newPool(t *testing.T, url string, change ...func(*Config)) *Pool {
	t.Helper()
	config := DefaultConfig()
	config.Targets = []string{url}
	for _, c := range change {
		c(&config)
	}
	pool, err := NewPool(config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// silentUpstream accepts connections, reads, and never answers. Each request is announced on received.
func silentUpstream(t *testing.T) (url string, received <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	seen := make(chan struct{}, 100)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				buffer := make([]byte, 1024)
				for {
					if _, err := conn.Read(buffer); err != nil {
						return
					}
					select {
					case seen <- struct{}{}:
					default: // nobody counts that many
					}
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
	return "http://" + listener.Addr().String(), seen
}

func codeOf(t *testing.T, err error) Code {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	return e.Code
}

func TestDoReturnsTheWholeResponse(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		data, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(data)
	}))
	defer server.Close()
	pool := newPool(t, server.URL)
	body := strings.Repeat("x", 1<<20)
	response, err := pool.Do(context.Background(), Request{Method: "POST", Target: "/", Body: []byte(body)})
	require.NoError(t, err)
	assert.Equal(t, http.StatusTeapot, response.Status)
	assert.Equal(t, body, string(response.Body))
	var cookies []string
	for name, value := range response.Fields.All {
		if string(name) == "Set-Cookie" {
			cookies = append(cookies, string(value))
		}
	}
	assert.Equal(t, []string{"a=1", "b=2"}, cookies)
	assert.Equal(t, Snapshot{
		Strategy: "round_robin", Connections: 1, Idle: 1, Calls: 1,
		Targets: []TargetSnapshot{{
			Target: server.URL, Weight: 1, Usable: true, Healthy: true, Breaker: "closed", LastFailureMS: -1, Connections: 1, Idle: 1,
		}},
	}, pool.Snapshot())
}

func TestDeadlineEndsTheCall(t *testing.T) {
	url, received := silentUpstream(t)
	pool := newPool(t, url, func(c *Config) { c.TimeoutMS = 50 })
	start := time.Now()
	_, err := pool.Do(context.Background(), Request{Method: "POST", Target: "/"})
	assert.Equal(t, CodeTotalTimeout, codeOf(t, err))
	assert.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
	assert.Less(t, time.Since(start), 300*time.Millisecond)
	<-received
	assert.Empty(t, received, "the request was sent twice")
	assert.Zero(t, pool.Snapshot().Connections)
}

// A call with a short timeout of its own must not wait for the timer of the longer ones before it.
func TestShorterTimeoutRearmsTheTimer(t *testing.T) {
	url, _ := silentUpstream(t)
	pool := newPool(t, url)
	long := &collector{done: make(chan struct{})}
	call := &Call{Request: Request{Method: "GET", Target: "/"}, Sink: long, ID: 1}
	pool.Start(call)
	short := &collector{done: make(chan struct{})}
	pool.Start(&Call{Request: Request{Method: "GET", Target: "/"}, Sink: short, ID: 1, Timeout: 30 * time.Millisecond})
	select {
	case <-short.done:
		assert.Equal(t, CodeTotalTimeout, short.err.Code)
	case <-time.After(5 * time.Second):
		require.Fail(t, "the deadline was missed")
	}
	call.Cancel(1)
	<-long.done
	assert.Equal(t, CodeCancelled, long.err.Code)
}

// All connections are busy: the deadline also holds for calls that wait for one.
func TestDeadlineInTheQueue(t *testing.T) {
	url, _ := silentUpstream(t)
	pool := newPool(t, url)
	start := func(timeout time.Duration) *collector {
		sink := &collector{done: make(chan struct{})}
		pool.Start(&Call{Request: Request{Method: "GET", Target: "/"}, Sink: sink, ID: 1, Timeout: timeout})
		return sink
	}
	var busy, queued []*collector
	for range DefaultConfig().MaxConnections {
		busy = append(busy, start(time.Minute))
	}
	for range 50 {
		queued = append(queued, start(50*time.Millisecond))
	}
	for _, sink := range queued {
		<-sink.done
		require.Equal(t, CodeTotalTimeout, sink.err.Code)
		require.Equal(t, "queue", sink.err.Phase.String())
	}
	pool.Close()
	for _, sink := range busy {
		<-sink.done
		require.Equal(t, CodeClientClosed, sink.err.Code)
	}
	assert.Zero(t, pool.Snapshot().InFlight)
}

func TestContextCancelsTheCall(t *testing.T) {
	url, received := silentUpstream(t)
	pool := newPool(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-received; cancel() }()
	_, err := pool.Do(ctx, Request{Method: "GET", Target: "/"})
	assert.Equal(t, CodeCancelled, codeOf(t, err))
	assert.ErrorIs(t, err, ErrCallerLeft)
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	url, received := silentUpstream(t)
	pool := newPool(t, url)
	go func() { <-received; pool.Close() }()
	_, err := pool.Do(context.Background(), Request{Method: "GET", Target: "/"})
	assert.Equal(t, CodeClientClosed, codeOf(t, err))
	_, err = pool.Do(context.Background(), Request{Method: "GET", Target: "/"})
	assert.Equal(t, CodeClientClosed, codeOf(t, err))
	pool.Close()
}

func TestErrorsSayWhatHappened(t *testing.T) {
	pool := newPool(t, "http://127.0.0.1:1")
	_, err := pool.Do(context.Background(), Request{Method: "GET", Target: "/"})
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, CodeConnect, e.Code)
	assert.Equal(t, "connect", e.Phase.String())
	assert.False(t, e.Sent)
	_, err = pool.Do(context.Background(), Request{Method: "GET", Target: "x"})
	assert.Equal(t, CodeInvalidRequest, codeOf(t, err))
}

func TestCertificateIsVerified(t *testing.T) {
	var served atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	pool := newPool(t, server.URL)
	_, err := pool.Do(context.Background(), Request{Method: "GET", Target: "/"})
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, CodeTLS, e.Code)
	assert.False(t, e.Sent)
	assert.Contains(t, e.Message, "certificate")
	assert.Zero(t, served.Load())
}

// Many goroutines on one pool: every one gets its own answer.
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path)
	}))
	defer server.Close()
	pool := newPool(t, server.URL)
	var group sync.WaitGroup
	for worker := range 32 {
		group.Go(func() {
			for i := range 50 {
				target := "/" + strings.Repeat("x", worker) + "/" + strings.Repeat("y", i)
				response, err := pool.Do(context.Background(), Request{Method: "GET", Target: target})
				if !assert.NoError(t, err) || !assert.Equal(t, target, string(response.Body)) {
					return
				}
			}
		})
	}
	group.Wait()
}
