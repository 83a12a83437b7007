package h1

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// refreshAfter is how old an answer of the resolver may be before it is asked again. It is asked beside the traffic,
// whether or not a connection is to be made: a name that has moved is followed while connections to the old address still
// work.
const refreshAfter = 30 * time.Second

// addresses is one answer of the resolver. It is immutable; another answer with the same addresses is the same object.
type addresses struct{ list []netip.Addr }

// resolver finds the addresses of one name, and keeps the last answer: when the resolver fails, the stale answer serves.
type resolver struct {
	host   string
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	life    context.Context // ends with the transport
	end     context.CancelFunc
	current atomic.Pointer[addresses]

	mu     sync.Mutex
	asked  time.Time // when the last successful question was asked
	flight *flight   // the question under way
}

// flight is a question that several connections wait for.
type flight struct {
	done  chan struct{}
	found *addresses
	err   error
}

// newResolver returns nil for an address that needs no resolving.
func newResolver(host string, lookup func(context.Context, string) ([]netip.Addr, error)) *resolver {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	r := &resolver{host: host, lookup: lookup}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// resolve returns the addresses of the name. A fresh answer is returned at once, and so is a slightly old one, which is
// refreshed meanwhile. An older one serves if there is no better one soon.
func (r *resolver) resolve(ctx context.Context) (*addresses, error) {
	found := r.current.Load()
	var patience <-chan time.Time
	if found != nil {
		age := r.age()
		if age >= refreshAfter {
			r.ask()
		}
		if age < 2*refreshAfter {
			return found, nil
		}
		timer := time.NewTimer(staleAfter)
		defer timer.Stop()
		patience = timer.C
	}
	f := r.ask()
	select {
	case <-f.done:
		if f.err != nil && found != nil {
			return found, nil
		}
		return f.found, f.err
	case <-patience:
		return found, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// staleAfter is how long an answer that is old is held back in the hope of a new one.
const staleAfter = time.Second

func (r *resolver) age() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.asked)
}

// refresh asks again, in the background, if the answer is old.
func (r *resolver) refresh() {
	if r.current.Load() != nil && r.age() >= refreshAfter {
		r.ask()
	}
}

// lookupLimit bounds one question, for which nobody may be waiting any more.
const lookupLimit = 10 * time.Second

// ask asks the resolver, or joins the question that is under way.
func (r *resolver) ask() *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight
	}
	f := &flight{done: make(chan struct{})}
	r.flight = f
	go func() {
		ctx, cancel := context.WithTimeout(r.life, lookupLimit)
		defer cancel()
		asked := time.Now()
		list, err := r.addresses(ctx)
		if err == nil && len(list) == 0 {
			err = &net.DNSError{Err: "no addresses", Name: r.host, IsNotFound: true}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.flight = nil
		if f.err = err; err == nil {
			r.asked = asked
			f.found = r.keep(list)
		}
		close(f.done)
	}()
	return f
}

// addresses asks; a panic is an answer like any other failure.
func (r *resolver) addresses(ctx context.Context) (list []netip.Addr, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			Panics.Add(1)
			list, err = nil, fmt.Errorf("the resolver panicked: %v", cause)
		}
	}()
	return r.lookup(ctx, r.host)
}

// keep makes a list the current answer, unless it holds the same addresses.
func (r *resolver) keep(list []netip.Addr) *addresses {
	found := &addresses{}
	for _, address := range list {
		found.list = append(found.list, address.Unmap())
	}
	if current := r.current.Load(); current != nil && sameSet(current.list, found.list) {
		return current
	}
	r.current.Store(found)
	return found
}

func sameSet(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, address := range a {
		if !slices.Contains(b, address) {
			return false
		}
	}
	return true
}

// gone reports whether a connection leads to an address that the name does not have any more.
func (r *resolver) gone(c *conn) bool {
	current := r.current.Load()
	if current == c.resolved || c.resolved == nil {
		return false
	}
	remote, ok := c.raw.RemoteAddr().(*net.TCPAddr)
	if ok && slices.Contains(current.list, remote.AddrPort().Addr().Unmap()) {
		c.resolved = current
		return false
	}
	return true
}
