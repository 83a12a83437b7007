package core

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeUpstream answers each request as answer says, and counts them. It can be taken down and put up again.
type fakeUpstream struct {
	t        *testing.T
	address  string
	requests atomic.Int32
	opened   atomic.Int32 // connections
	answer   atomic.Pointer[func(conn net.Conn, request *http.Request) bool]

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	group    sync.WaitGroup
}

func newFakeUpstream(t *testing.T) *fakeUpstream {
	u := &fakeUpstream{t: t, address: "127.0.0.1:0"}
	u.status(200)
	u.up()
	t.Cleanup(func() { u.down(); u.group.Wait() })
	return u
}

func (u *fakeUpstream) url() string { return "http://" + u.address }

// up listens at the address that it had before.
func (u *fakeUpstream) up() {
	u.mu.Lock()
	defer u.mu.Unlock()
	listener, err := net.Listen("tcp", u.address)
	require.NoError(u.t, err)
	u.address, u.listener, u.conns = listener.Addr().String(), listener, map[net.Conn]bool{}
	u.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			u.opened.Add(1)
			u.mu.Lock()
			u.conns[conn] = true
			u.mu.Unlock()
			u.group.Go(func() { u.serve(conn) })
		}
	})
}

// down closes the listener and all connections.
func (u *fakeUpstream) down() {
	u.mu.Lock()
	defer u.mu.Unlock()
	_ = u.listener.Close()
	for conn := range u.conns {
		_ = conn.Close()
	}
}

func (u *fakeUpstream) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		u.mu.Lock()
		delete(u.conns, conn)
		u.mu.Unlock()
	}()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		u.requests.Add(1)
		if !(*u.answer.Load())(conn, request) {
			return
		}
	}
}

func (u *fakeUpstream) does(answer func(conn net.Conn, request *http.Request) bool) {
	u.answer.Store(&answer)
}

// status makes it answer with a status and its own address for a body.
func (u *fakeUpstream) status(status int, fields ...string) {
	u.does(func(conn net.Conn, _ *http.Request) bool {
		head := "HTTP/1.1 " + strconv.Itoa(status) + " X\r\nContent-Length: " + strconv.Itoa(len(u.address)) + "\r\n"
		for _, field := range fields {
			head += field + "\r\n"
		}
		_, err := io.WriteString(conn, head+"\r\n"+u.address)
		return err == nil
	})
}

// hangsUp makes it close the connection after the request, without an answer.
func (u *fakeUpstream) hangsUp() { u.does(func(net.Conn, *http.Request) bool { return false }) }

// holds makes it wait until release is closed, and then answer.
func (u *fakeUpstream) holds(release <-chan struct{}) {
	u.does(func(conn net.Conn, _ *http.Request) bool {
		<-release
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return err == nil
	})
}

// poolOf is a pool over some upstreams with no pauses between attempts.
func poolOf(t *testing.T, upstreams []*fakeUpstream, change ...func(*Config)) *Pool {
	t.Helper()
	config := DefaultConfig()
	config.RetryBaseDelayMS, config.RetryMaxDelayMS = 0, 0
	for _, u := range upstreams {
		config.Targets = append(config.Targets, u.url())
	}
	for _, c := range change {
		c(&config)
	}
	pool, err := NewPool(config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func fakes(t *testing.T, count int) []*fakeUpstream {
	upstreams := make([]*fakeUpstream, count)
	for i := range upstreams {
		upstreams[i] = newFakeUpstream(t)
	}
	return upstreams
}

func get(pool *Pool) (Response, *Error) { return send(pool, Request{Method: "GET", Target: "/"}) }

func send(pool *Pool, request Request) (Response, *Error) {
	response, err := pool.Do(context.Background(), request)
	if err != nil {
		return response, err.(*Error)
	}
	return response, nil
}

// eventually waits for what happens on other goroutines.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 5*time.Second, time.Millisecond)
}

// states are the states of all breakers.
func states(pool *Pool) []string {
	var states []string
	for _, target := range pool.Snapshot().Targets {
		states = append(states, target.Breaker)
	}
	return states
}
