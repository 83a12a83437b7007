package h1

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Options of a Transport. Durations and limits must be positive unless zero is said to mean none.
type Options struct {
	// Network is "tcp" or "unix".
	Network string
	// Address is the host:port to connect to, or the path of a unix socket.
	Address string
	// Authority is the value of Host.
	Authority string
	// TLS encrypts connections; nil sends plain HTTP.
	TLS *tls.Config
	// Resolve finds the addresses of a name; nil: Go's resolver does. It is asked again after refreshAfter.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	// ConnectTimeout bounds resolving, connecting and the TLS handshake together.
	ConnectTimeout time.Duration
	// PoolTimeout bounds the wait for a connection while all are busy; zero: none of its own.
	PoolTimeout time.Duration
	// FirstByteTimeout bounds the wait for the first byte of the response after the request was sent; zero: none.
	FirstByteTimeout time.Duration
	// IdleTimeout bounds the time in which nothing of a body is received or sent; zero: none.
	IdleTimeout time.Duration

	// KeepAlive is how long an idle connection is kept.
	KeepAlive time.Duration
	// MaxConnections bounds the connections; more exchanges wait.
	MaxConnections int
	// MaxIdle is how many idle connections are kept. What a burst leaves above it is closed after quietTime.
	MaxIdle int
	// MaxWaiting bounds the exchanges that wait; more fail with KindExhausted.
	MaxWaiting int

	// MaxHeadBytes and MaxHeadFields bound the head of a response.
	MaxHeadBytes, MaxHeadFields int
	// MaxRequestBody and MaxResponseBody bound bodies in bytes; zero: no limit.
	MaxRequestBody, MaxResponseBody int64
}

// Transport carries exchanges to one upstream over a pool of connections.
type Transport struct {
	options  Options
	idle     idlePool
	dialer   net.Dialer
	resolver *resolver // nil: the address is one

	mu        sync.Mutex
	closed    bool
	slots     int // admitted exchanges; each holds at most one connection
	waiters   waitList
	nextSweep time.Time
	recycled  bool // the pool belongs to another transport now
}

// NewTransport returns a transport; it connects when it is first used.
func NewTransport(options Options) *Transport {
	t := &Transport{options: options, idle: newIdlePool(options.MaxConnections)}
	if host, _, err := net.SplitHostPort(options.Address); err == nil && options.Network == "tcp" {
		t.resolver = newResolver(host, options.Resolve)
	}
	return t
}

// Start begins an exchange and returns without waiting for it. Its outcome goes to the receiver.
func (t *Transport) Start(ex *Exchange) {
	if err := ex.prepare(t); err != nil {
		ex.fail(err)
		return
	}
	t.mu.Lock()
	switch {
	case ex.Cancelled(): // asked under the lock that the queue has: a Cancel from now on finds the exchange there
		t.mu.Unlock()
		ex.fail(ex.cancelled(PhaseQueue))
	case t.closed:
		t.mu.Unlock()
		ex.fail(&Error{Kind: KindTransportClosed, Phase: PhaseQueue, Message: "the client is closed"})
	case t.slots < t.options.MaxConnections:
		t.slots++
		t.mu.Unlock()
		t.dispatch(ex)
	case t.waiters.size < t.options.MaxWaiting:
		t.waiters.push(ex)
		if ex.Watched {
			ex.waits.begin(waitQueue)
		}
		t.mu.Unlock()
	default:
		t.mu.Unlock()
		ex.fail(&Error{Kind: KindExhausted, Phase: PhaseQueue, Message: "all connections are busy and the queue is full"})
	}
}

// dispatch gives an admitted exchange a connection: an idle one that still lives, or a new one.
func (t *Transport) dispatch(ex *Exchange) {
	for {
		c, err := t.take()
		if err != nil {
			t.freeSlot()
			ex.fail(&Error{Kind: KindExhausted, Phase: PhaseQueue, Message: "no connection to be had", Err: err})
			return
		}
		if c.raw == nil {
			go t.connect(ex, c)
			return
		}
		if t.fresh(c) && c.state.CompareAndSwap(connIdle, connClaimed) && t.send(ex, c) {
			return
		}
		t.drop(c)
	}
}

// fresh reports whether a connection may carry another exchange: the upstream still keeps it by its own word (a request that
// meets its close on the way may be lost, and nobody can tell whether it was), and its address is still the upstream's.
func (t *Transport) fresh(c *conn) bool {
	if c.expires != 0 && time.Since(epoch) >= c.expires {
		return false
	}
	return t.resolver == nil || !t.resolver.gone(c)
}

// send sends on a claimed connection. false: the connection is of no use, the exchange needs another.
func (t *Transport) send(ex *Exchange, c *conn) bool {
	switch ex.sendOn(c) {
	case sendStale:
		return false
	case sendCancelled:
		if !c.state.CompareAndSwap(connClaimed, connIdle) {
			t.drop(c)
			t.freeSlot()
		} else {
			t.release(c)
		}
		ex.fail(ex.cancelled(PhaseQueue))
	}
	return true
}

// take leases a connection from the pool, but not in the middle of a sweep.
func (t *Transport) take() (*conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.idle.take()
}

// drop returns the lease of a connection that has ended, or never was.
func (t *Transport) drop(c *conn) { c.lease.close() }

// release takes back a connection that can carry another exchange, with its slot: the longest waiting exchange gets
// both, else the connection becomes idle.
func (t *Transport) release(c *conn) {
	t.mu.Lock()
	ex := t.waiters.pop()
	if ex != nil {
		t.mu.Unlock()
		c.state.Store(connClaimed)
		if !t.send(ex, c) {
			t.drop(c)
			t.dispatch(ex)
		}
		return
	}
	if t.closed {
		t.drop(c)
		t.slots--
		t.recycleLocked()
		t.mu.Unlock()
		return
	}
	c.state.Store(connIdle)
	c.lease.release()
	t.slots--
	if t.nextSweep.IsZero() {
		t.scheduleSweepLocked(t.sweepInterval())
	}
	t.mu.Unlock()
}

// freeSlot passes the slot of a finished exchange on to the longest waiting one.
func (t *Transport) freeSlot() {
	t.mu.Lock()
	ex := t.waiters.pop()
	if ex == nil {
		t.slots--
		t.recycleLocked()
	}
	t.mu.Unlock()
	if ex != nil {
		t.dispatch(ex)
	}
}

// Close ends idle connections at once and busy ones after their exchange, and fails what waits. Exchanges under way
// are not cancelled.
func (t *Transport) Close() {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	if closed {
		return
	}
	if t.resolver != nil {
		t.resolver.end()
	}
	for {
		t.mu.Lock()
		ex := t.waiters.pop()
		t.mu.Unlock()
		if ex == nil {
			break
		}
		ex.fail(&Error{Kind: KindTransportClosed, Phase: PhaseQueue, Message: "the client was closed"})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle.closeIdle()
	t.recycleLocked()
}

// recycleLocked gives the pool away once the transport is closed and nothing of it is leased any more.
func (t *Transport) recycleLocked() {
	if t.closed && t.slots == 0 && !t.recycled {
		t.recycled = true
		t.idle.recycle()
	}
}

// Connections returns the number of connections and how many of them are idle.
func (t *Transport) Connections() (all, idle int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.recycled {
		return 0, 0
	}
	return t.idle.size()
}

// connect dials for an exchange and then serves the connection. It is the goroutine of that connection.
func (t *Transport) connect(ex *Exchange, c *conn) {
	ctx, cancel := context.WithTimeout(context.Background(), t.options.ConnectTimeout)
	transport, raw, err := t.dial(ctx, ex, c, cancel)
	cancel()
	if err == nil {
		err = c.bind(transport, raw)
	}
	if err == nil {
		c.state.Store(connClaimed)
		switch ex.sendOn(c) {
		case sendStarted:
			c.serve()
			return
		case sendStale:
			err = &Error{
				Kind: KindClosed, Phase: PhaseWrite,
				Message: "the upstream closed the new connection, or sent something on it, before the request",
			}
		case sendCancelled:
			err = ex.cancelled(PhaseConnect)
		}
		_ = raw.Close()
	}
	t.drop(c)
	t.freeSlot()
	ex.fail(err)
}
