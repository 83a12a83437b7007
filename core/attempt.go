package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/velithon/velithon-proxy/core/breaker"
	"github.com/velithon/velithon-proxy/core/h1"
	"github.com/velithon/velithon-proxy/core/retry"
)

// attempt is one exchange of a call with one upstream. A call makes its attempts one after the other.
type attempt struct {
	call     *Call
	exchange h1.Exchange
	member   *member // of the last attempt; nil before the first one
	permit   breaker.Permit
	started  time.Time
	number   int  // from 1
	retry    bool // the budget counts it
	status   int  // of the response; zero before there is one
	verdict  retry.Verdict
}

// Attempt is the record of one attempt.
type Attempt struct {
	Upstream int    // number, see Pool
	Target   string // as it was given
	Status   int    // of the response; zero without one
	Err      *Error // nil with a response, even one that was not handed on
	Took     time.Duration
	Retried  bool   // another attempt followed
	Reason   string // why, or why not
}

// errHeldBack ends an exchange whose response is not handed on, because another attempt is made.
var errHeldBack = errors.New("the response is held back for another attempt")

// attempt makes the next attempt of a call: it picks an upstream, admits the call there and starts the exchange.
func (p *Pool) attempt(call *Call) {
	a := &call.attempt
	m := p.admit(call, &a.permit)
	if m == nil {
		m = p.lastResort(call)
	}
	if m == nil {
		p.refuse(call)
		return
	}
	a.member, a.status, a.verdict = m, 0, retry.Verdict{}
	if a.number++; a.number == 1 {
		a.started = call.Started
	} else {
		a.started = time.Now()
	}
	p.enter(m)
	exchange := &a.exchange
	exchange.Request, exchange.Receiver = call.Request, a
	exchange.Request.Again = p.policy.MaxRetries > 0 && retry.Safe(call.Request.Method)
	if p.config.TryTimeoutMS > 0 { // before arm: it must not find the limit of the attempt before
		p.active.limitTry(call, time.Now().Add(milliseconds(p.config.TryTimeoutMS)))
	}
	if !call.arm(m.transport) {
		p.leave(m)
		a.end(a.permit.Ignore)
		p.conclude(call, call.cancelled())
		return
	}
	m.transport.Start(exchange)
}

// lastResort is the upstream of an attempt that follows a response that was held back, if breakers have opened since: the
// response cannot be had again, and the client is owed one. nil: there was none, or the upstream serves no more.
func (p *Pool) lastResort(call *Call) *member {
	made := call.Attempts
	if len(made) == 0 || made[len(made)-1].Err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := call.attempt.member
	if !slices.Contains(p.members, m) || !m.healthy || m.draining {
		return nil
	}
	return m
}

// Respond implements h1.Receiver.
func (a *attempt) Respond(head *h1.Head, body *h1.Body) error {
	call, p := a.call, a.call.pool
	a.status = head.Status
	if p.policy.HoldsBack(head.Status) && a.holdBack(head) {
		if body.Arrived() { // then the connection is worth keeping
			if _, err := body.Whole(); err != nil {
				return err
			}
			return nil
		}
		return errHeldBack
	}
	call.answered.Store(true)
	if a.exchange.Cancelled() { // before the sink could be told
		return ErrCallerLeft
	}
	if endless := call.Stream && p.config.TotalTimeoutMS == 0; endless || p.config.TryTimeoutMS > 0 {
		p.active.relax(call, endless)
	}
	return call.Sink.Respond(head, body)
}

// holdBack decides whether a response with a status that may be retried is. It cannot be had again: so there must be an
// upstream for the next attempt, as things stand after this one was counted.
func (a *attempt) holdBack(head *h1.Head) bool {
	p := a.call.pool
	facts := a.facts(nil)
	facts.Status = head.Status
	facts.RetryAfter, facts.HasRetryAfter = retryAfter(head.Fields)
	verdict := p.judge(a.call, &facts)
	if verdict.Again {
		a.report(nil)
		if !p.usable() {
			p.budget.EndRetry()
			verdict = retry.Verdict{Why: "there is no upstream for another attempt"}
		}
	}
	a.verdict = verdict
	return verdict.Again
}

// Cancelled implements h1.Receiver.
func (a *attempt) Cancelled() {
	if a.call.answered.Load() {
		a.call.Sink.Cancelled()
	}
}

// Done implements h1.Receiver: it reports to the breaker, and ends the call or makes another attempt.
func (a *attempt) Done(failure *h1.Error) {
	call, p := a.call, a.call.pool
	p.leave(a.member)
	if failure != nil && failure.Kind == h1.KindTransportClosed && !p.closed.Load() {
		// The upstream was removed between the choice and the start.
		a.end(a.permit.Ignore)
		a.number--
		p.attempt(call)
		return
	}
	err := callError(failure)
	if a.verdict.Again && failure != nil && errors.Is(failure, errHeldBack) {
		err = nil
	}
	a.report(err)
	if a.retry {
		a.retry = false
		p.budget.EndRetry()
	}
	if err != nil {
		if a.verdict.Again { // it was cancelled while its response was held back
			p.budget.EndRetry()
		}
		facts := a.facts(err)
		a.verdict = p.judge(call, &facts)
	}
	if err != nil || a.verdict.Again || len(call.Attempts) > 0 {
		call.note(err)
	}
	call.last = err
	if !a.verdict.Again {
		p.conclude(call, err)
		return
	}
	a.retry = true
	p.retries.Add(1)
	p.again(call, a.verdict.Delay)
}

// note keeps the record of an attempt that is over.
func (c *Call) note(err *Error) {
	a := &c.attempt
	c.Attempts = append(c.Attempts, Attempt{
		Upstream: a.member.number, Target: a.member.target.Given, Status: a.status, Err: err,
		Took: max(time.Since(a.started), 0), Retried: a.verdict.Again, Reason: a.verdict.Why,
	})
}

// report tells the breaker how the attempt ended; only the first report counts. Success is a body that was read to its
// end, not a head.
func (a *attempt) report(err *Error) {
	switch {
	case err == nil && slices.Contains(a.call.pool.config.BreakerStatuses, a.status):
		a.end(func() { a.permit.Failure(fmt.Sprintf("status %d", a.status)) })
	case err == nil:
		a.end(a.permit.Success)
	case err.blames():
		a.end(func() { a.permit.Failure(err.Message) })
	default:
		a.end(a.permit.Ignore)
	}
}

// end ends the permit. The place of a probe is free then, also if the breaker's state stays the same.
func (a *attempt) end(report func()) {
	probing := a.permit.Probing()
	report()
	if probing {
		a.call.pool.stale.Store(true)
	}
}

// facts are what the rules of retries look at.
func (a *attempt) facts(err *Error) retry.Attempt {
	call, p := a.call, a.call.pool
	request := &call.Request
	_, idempotent := request.Fields.Get("idempotency-key")
	facts := retry.Attempt{
		Method:         request.Method,
		IdempotencyKey: p.config.RetryIdempotencyKey && idempotent,
		Replayable:     request.Source == nil && int64(len(request.Body)) <= p.config.RetryMaxBody,
		Number:         a.number,
		Sent:           true,
		OtherUpstream:  p.hasOther(call),
	}
	if err == nil {
		return facts
	}
	facts.Sent, facts.Responded, facts.Final = err.Sent, err.Responded, err.final()
	facts.Unconnected = !err.Sent && err.Phase <= h1.PhaseTLS
	if !err.Sent {
		// As long as there was no connection nothing was taken from a source either, and a body is still the caller's.
		facts.Replayable = request.Source == nil || (err.Phase >= h1.PhaseDNS && err.Phase <= h1.PhaseTLS)
	}
	return facts
}
