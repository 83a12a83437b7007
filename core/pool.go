package core

import (
	"sync/atomic"
	"time"
)

// Pool is a named set of upstreams and the policy for reaching them. It is safe for concurrent use.
type Pool struct {
	config   Config
	upstream *upstream
	active   callList
	closed   atomic.Bool
}

// NewPool returns a pool for a validated configuration. It connects when it is first used.
func NewPool(config Config) (*Pool, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	target, err := ParseTarget(config.Targets[0])
	if err != nil {
		return nil, err
	}
	p := &Pool{config: config, upstream: newUpstream(target, &config)}
	p.active.options, p.active.expire = p.upstream.transport.Options(), p.expire
	return p, nil
}

// Start begins a call and returns without waiting for it: it neither waits for the network nor for another goroutine.
// The outcome goes to call.Sink, possibly before Start returns.
func (p *Pool) Start(call *Call) {
	call.pool = p
	if call.Started.IsZero() {
		call.Started = time.Now()
	}
	timeout := call.Timeout
	if timeout <= 0 {
		timeout = p.config.Timeout()
	}
	call.deadline = call.Started.Add(timeout)
	call.attempt.call = call
	exchange := &call.attempt.exchange
	exchange.Request, exchange.Receiver, exchange.ID = call.Request, &call.attempt, call.ID
	exchange.Request.Again = p.config.MaxRetries > 0 && repeatable(call.Request.Method)
	// A limit that the deadline always comes before needs no watching.
	exchange.Watched = p.active.watches(call.Stream, timeout)
	p.active.add(call)
	if p.closed.Load() {
		p.active.remove(call, false)
		if source := call.Request.Source; source != nil {
			source.Close()
		}
		call.Sink.Done(&Error{Code: CodeClientClosed, Message: "the client is closed"})
		return
	}
	p.upstream.transport.Start(exchange)
}

// repeatable reports whether a method may be sent again although the upstream may have seen it: those that only read
// (RFC 9110 section 9.2.1).
func repeatable(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// end forgets a call that is over.
func (p *Pool) end(call *Call, ok bool) { p.active.remove(call, ok) }

// expire ends the calls whose deadline has passed.
func (p *Pool) expire() {
	for _, due := range p.active.expired(time.Now()) {
		due.cancel()
	}
}

// Close ends the calls under way with CodeClientClosed and closes all connections. Later calls fail with the same
// code. Closing twice is fine.
func (p *Pool) Close() {
	if p.closed.Swap(true) {
		return
	}
	for _, call := range p.active.all(errPoolClosed) {
		call.cancel()
	}
	p.upstream.transport.Close()
	p.active.stop()
}
