package core

import (
	"sync/atomic"
	"time"

	"github.com/velithon/velithon-proxy/core/balance"
	"github.com/velithon/velithon-proxy/core/breaker"
	"github.com/velithon/velithon-proxy/core/h1"
)

// member is an upstream as its pool sees it: whether it may be used, how much, and what came of it.
type member struct {
	number    int
	target    Target
	transport *h1.Transport
	breaker   *breaker.Breaker
	active    atomic.Int64 // attempts under way
	backup    bool
	since     atomic.Int64 // since when it can be used, after Pool.born, for slow start; zero: for long

	// Guarded by Pool.mu.
	weight    int
	healthy   bool // by the probes; true while there are none
	draining  bool // gets nothing new
	probed    int  // its number with the prober
	probes    *h1.Transport
	probeNote string // what the last probe found
}

// usable reports whether a request could be sent to the member.
func (m *member) usable(now time.Time) bool {
	return m.healthy && !m.draining && m.weight > 0 && m.breaker.Usable(now)
}

// newMember opens no connection yet.
func (p *Pool) newMember(number int, target Target, weight int, backup bool) *member {
	options := p.options
	options.Network, options.Address, options.Authority = target.Network, target.Address, target.Host
	options.TLS = tlsFor(target, p.tls)
	m := &member{number: number, probed: number, target: target, transport: h1.NewTransport(options), weight: weight, backup: backup, healthy: true}
	m.breaker = breaker.New(p.config.breakerSettings(), p.now, func(change breaker.Change) { p.observe(m, change) })
	return m
}

// observe notes a change of a breaker. It runs under the breaker's lock.
func (p *Pool) observe(m *member, change breaker.Change) {
	if change.To == breaker.Closed {
		p.welcome(m)
	}
	p.stale.Store(true)
	p.changes.add(Change{
		Upstream: m.number, Target: m.target.Given, What: "breaker",
		Before: change.From.String(), After: change.To.String(), Reason: change.Reason, At: change.At,
	})
}

// welcome begins the slow start of a member.
func (p *Pool) welcome(m *member) { m.since.Store(int64(max(p.now().Sub(p.born), 1))) }

// enter counts an attempt at a member; leave ends it.
func (p *Pool) enter(m *member) {
	m.active.Add(1)
	p.attempts.Add(1)
}

func (p *Pool) leave(m *member) {
	m.active.Add(-1)
	p.attempts.Add(-1)
}

// candidate is the member as the balance sees it.
func (p *Pool) candidate(m *member, unit int, now time.Time) (member balance.Member, ramping bool) {
	full := milliseconds(p.config.SlowStartMS)
	up := full
	if since := m.since.Load(); full > 0 && since > 0 {
		up = now.Sub(p.born) - time.Duration(since)
	}
	return balance.Member{Key: m.target.key, Weight: balance.Ramp(m.weight/unit, up, full), Active: &m.active}, up < full
}
