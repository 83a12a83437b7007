package core

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velithon/velithon-proxy/core/h1"
)

// The parts of a call that belong to the transport.
type (
	Request = h1.Request
	Fields  = h1.Fields
	Head    = h1.Head
	Body    = h1.Body
	Source  = h1.Source
)

// Sink takes the outcome of a call.
type Sink interface {
	// Respond is called with the head of the final response and reads the body as far as it wants it. An error of its
	// own ends the call. Head and Body are valid until Done returns. Not called when there is no response.
	Respond(head *Head, body *Body) error
	// Cancelled says that the call was cancelled: a Respond that waits for something else than the body is to return.
	// It may come at any time between Respond and Done, on any goroutine, and must not wait.
	Cancelled()
	// Done is called once, last. By then the request's memory is not used any more.
	Done(err *Error)
}

// Call is one request to a pool. It can be used again once Sink.Done was called.
type Call struct {
	Request Request
	Sink    Sink
	// Started is when the call was made, if that was before Start: a caller may have been waiting for some time. Start
	// sets it to the current time when it is zero.
	Started time.Time
	// Timeout is the time for the whole call: queueing, connecting, every attempt, the response with its body. Zero
	// means the pool's own, Config.Timeout.
	Timeout time.Duration
	// Stream makes the timeout end with the head of the response: its body may take as long as it goes on.
	Stream bool
	// Key is what consistent_hash looks at; equal keys go to the same upstream. Without one it is what Config.HashOn names.
	// Its memory is not used beyond Start.
	Key []byte
	// ID tells this use of the Call from others; not zero, below 1<<56, and new each time. Cancel needs it.
	ID uint64
	// Attempts are those that were made, unless the first one brought the response. Valid until the Call is used again.
	Attempts []Attempt

	pool     *Pool
	attempt  attempt
	hash     uint64
	inside   bool      // Config.MaxInFlight has let it in
	last     *Error    // of the last attempt
	deadline time.Time // zero: none; guarded by pool.active.mu, like the next one
	tryUntil time.Time // limit of the attempt under way; zero: none
	answered atomic.Bool
	// holdUntil is how long it may wait for an upstream to become usable; zero: it has not yet.
	holdUntil time.Time

	mu      sync.Mutex // guards what Cancel needs
	current uint64     // ID from Start to the end, else 0
	cause   error
	armed   uint64      // ID of the exchange under way, or that of the last one
	pause   *time.Timer // between two attempts; nil: there is none

	exchanges uint8 // that were armed

	prev, next *Call // in pool.active
	place      place // in a queue of the pool
}

// begin makes the call one that can be cancelled.
func (c *Call) begin() {
	c.Attempts, c.last, c.inside, c.tryUntil, c.holdUntil = c.Attempts[:0], nil, false, time.Time{}, time.Time{}
	c.attempt.call, c.attempt.member, c.attempt.number, c.attempt.retry = c, nil, 0, false
	c.answered.Store(false)
	c.mu.Lock()
	c.current, c.cause, c.armed, c.exchanges = c.ID, nil, 0, 0
	c.mu.Unlock()
}

// arm prepares the next exchange so that Cancel reaches it from now on. false: the call was cancelled before.
func (c *Call) arm(transport *h1.Transport) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return false
	}
	// Of its own for each exchange: a limit that one has reached must not end the next one. The number of the attempt would
	// not do, which is taken back when the upstream was removed meanwhile.
	c.exchanges++
	c.armed = c.ID<<8 | uint64(c.exchanges)
	c.attempt.exchange.ID = c.armed
	c.attempt.exchange.Arm(transport)
	return true
}

// sleep calls wake after a pause. false: the call was cancelled before.
func (c *Call) sleep(pause time.Duration, wake func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return false
	}
	var timer *time.Timer
	timer = time.AfterFunc(pause, func() {
		defer h1.Recover()
		c.mu.Lock()
		woken := c.pause == timer
		if woken {
			c.pause = nil
		}
		c.mu.Unlock()
		if woken {
			wake()
		}
	})
	c.pause = timer
	return true
}

// Elapsed is the time since the call was started.
func (c *Call) Elapsed() time.Duration { return max(time.Since(c.Started), 0) }

// Upstream is the number of the upstream that was tried last, see Pool; -1 if there was none.
func (c *Call) Upstream() int {
	if c.attempt.member == nil {
		return -1
	}
	return c.attempt.member.number
}

// Cancel ends the call with this ID at once with CodeCancelled. An ID whose call is over is ignored.
func (c *Call) Cancel(id uint64) { c.cancel(id, ErrCallerLeft) }

func (c *Call) cancel(id uint64, cause error) {
	c.mu.Lock()
	if c.current != id {
		c.mu.Unlock()
		return
	}
	if c.cause == nil {
		c.cause = cause
	}
	pause, armed, pool := c.pause, c.armed, c.pool
	c.pause = nil
	c.mu.Unlock()
	switch {
	case pause != nil:
		pause.Stop()
		pool.conclude(c, c.cancelled())
	case pool.dequeue(c, id):
		pool.conclude(c, c.cancelled())
	case armed != 0:
		c.attempt.exchange.Cancel(armed, cause)
	}
}

// isCancelled reports whether the call is still the one with this ID and was cancelled.
func (c *Call) isCancelled(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current == id && c.cause != nil
}

// cancelled is the error of a call that was cancelled while no exchange was under way.
func (c *Call) cancelled() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return callError(&h1.Error{Kind: h1.KindCancelled, Phase: h1.PhaseQueue, Message: "cancelled", Err: c.cause})
}

// withSent says of an error of the call what is true of all its attempts: whether any upstream may have seen the request.
func (c *Call) withSent(err *Error) *Error {
	if err == nil || err.Sent {
		return err
	}
	for _, attempt := range c.Attempts {
		if attempt.Err == nil || attempt.Err.Sent {
			whole := *err
			whole.Sent = true
			return &whole
		}
	}
	return err
}

// end makes Cancel ignore the call from now on.
func (c *Call) end() {
	c.mu.Lock()
	c.current = 0
	c.mu.Unlock()
}

// exchangeID is the ID of the exchange under way, for a limit of its own.
func (c *Call) exchangeID() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.armed
}

// Response is a whole response, as Pool.Do returns it.
type Response struct {
	Status   int
	Fields   Fields
	Body     []byte
	Attempts []Attempt // see Call
}

// collector is the Sink of Pool.Do.
type collector struct {
	response Response
	err      *Error
	done     chan struct{}
}

func (c *collector) Respond(head *Head, body *Body) error {
	c.response.Status = head.Status
	c.response.Fields = append(Fields(nil), head.Fields...)
	data, err := io.ReadAll(body)
	c.response.Body = data
	return err
}

func (c *collector) Cancelled() {}

func (c *collector) Done(err *Error) {
	c.err = err
	close(c.done)
}

// Do makes a call and waits for its whole response. When ctx ends first, the call is cancelled.
func (p *Pool) Do(ctx context.Context, request Request) (Response, error) {
	sink := &collector{done: make(chan struct{})}
	call := &Call{Request: request, Sink: sink, ID: 1}
	p.Start(call)
	select {
	case <-sink.done:
	case <-ctx.Done():
		call.Cancel(call.ID)
		<-sink.done
	}
	sink.response.Attempts = call.Attempts
	if sink.err != nil {
		return Response{Attempts: call.Attempts}, sink.err
	}
	return sink.response, nil
}
