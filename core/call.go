package core

import (
	"context"
	"io"
	"sync"
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
	// It may come at any time before Done, on any goroutine, and must not wait.
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
	// Timeout is the time for the whole call: queueing, connecting, sending, the response with its body. Zero means
	// the pool's own, Config.Timeout.
	Timeout time.Duration
	// Stream makes the timeout end with the head of the response: its body may take as long as it goes on.
	Stream bool
	// ID tells this use of the Call from others; not zero, and new each time. Cancel needs it.
	ID uint64

	pool     *Pool
	attempt  attempt
	deadline time.Time // zero: none

	prev, next *Call // in pool.active
}

// attempt is one exchange of a call.
type attempt struct {
	call     *Call
	exchange h1.Exchange
}

func (a *attempt) Respond(head *h1.Head, body *h1.Body) error {
	call := a.call
	if call.Stream && call.pool.config.TotalTimeoutMS == 0 {
		call.pool.active.relax(call)
	}
	return call.Sink.Respond(head, body)
}

func (a *attempt) Cancelled() { a.call.Sink.Cancelled() }

func (a *attempt) Done(err *h1.Error) {
	call := a.call
	call.pool.end(call, err == nil)
	call.Sink.Done(callError(err))
}

// Elapsed is the time since the call was started.
func (c *Call) Elapsed() time.Duration { return max(time.Since(c.Started), 0) }

// Cancel ends the call with this ID at once with CodeCancelled. An ID whose call is over is ignored.
func (c *Call) Cancel(id uint64) { c.attempt.exchange.Cancel(id, ErrCallerLeft) }

// Response is a whole response, as Pool.Do returns it.
type Response struct {
	Status int
	Fields Fields
	Body   []byte
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
	if sink.err != nil {
		return Response{}, sink.err
	}
	return sink.response, nil
}

// callList holds the calls under way, linked through the calls themselves.
type callList struct {
	mu    sync.Mutex
	first *Call
	size  int
	// armed is the time at which timer fires. It is never later than the earliest deadline; it is often earlier,
	// because a call that ends leaves it alone: with equal timeouts a timer is set once per timeout, not per call.
	armed time.Time
	timer *time.Timer
	done  uint64
	fails uint64

	// Set once: the limits besides the deadlines, and what the timer calls (a method value made for each call would
	// allocate).
	options *h1.Options
	expire  func()
}
