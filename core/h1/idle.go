package h1

import (
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// idlePool is fasthttp's connection pool: it keeps idle connections, last in first out, and bounds how many there are.
// Its dial hook hands out unconnected connections, so that taking one never waits for the network.
type idlePool struct{ client *fasthttp.HostClient }

// inert keeps fasthttp's cleaner from ending connections: Transport.sweep does, which knows more about them.
const inert = time.Hour

// spare keeps the pools of closed transports. A HostClient that was used has a cleaner goroutine that only ends after
// its next, distant, look at an empty pool: a program that opens and closes clients would pile them up.
var spare struct {
	sync.Mutex
	clients []*fasthttp.HostClient
}

func newIdlePool(maxConnections int) idlePool {
	spare.Lock()
	defer spare.Unlock()
	if last := len(spare.clients) - 1; last >= 0 {
		client := spare.clients[last]
		spare.clients = spare.clients[:last]
		client.SetMaxConns(maxConnections)
		return idlePool{client}
	}
	return idlePool{&fasthttp.HostClient{
		MaxConns:            maxConnections,
		MaxIdleConnDuration: inert,
		ConnPoolStrategy:    fasthttp.LIFO,
		Dial:                func(string) (net.Conn, error) { return newConn(), nil },
	}}
}

// take leases a connection: the one that became idle last, or an unconnected one.
func (p idlePool) take() (*conn, error) {
	leased, err := p.client.AcquireConn(0, true)
	if err != nil {
		return nil, err
	}
	c := leased.Conn().(*conn)
	if c.lease.release == nil {
		// The lease stays the same for the whole life of the connection.
		c.lease = lease{
			release: func() { p.client.ReleaseConn(leased) },
			close:   func() { p.client.CloseConn(leased) },
		}
	}
	return c, nil
}

func (p idlePool) size() (all, idle int) { return p.client.ConnsCount(), p.client.IdleConnsCount() }

func (p idlePool) closeIdle() { p.client.CloseIdleConnections() }

// recycle gives the pool of a closed transport away. Every lease must have been returned.
func (p idlePool) recycle() {
	spare.Lock()
	defer spare.Unlock()
	spare.clients = append(spare.clients, p.client)
}

// lease returns a connection to fasthttp's pool, for reuse or for good.
type lease struct{ release, close func() }
