package core

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velithon/velithon-proxy/core/balance"
	"github.com/velithon/velithon-proxy/core/breaker"
	"github.com/velithon/velithon-proxy/core/h1"
	"github.com/velithon/velithon-proxy/core/health"
	"github.com/velithon/velithon-proxy/core/retry"
)

// Pool is a set of upstreams and the policy for reaching them. It is safe for concurrent use.
//
// Upstreams have numbers: Config.Targets and then Config.Backups from 0 on, those that are added later follow. No number
// is used again.
type Pool struct {
	config  Config
	options h1.Options
	tls     *tls.Config
	policy  retry.Policy
	budget  retry.Budget
	now     func() time.Time
	born    time.Time
	active  callList
	closed  atomic.Bool

	choice   atomic.Pointer[choice]
	stale    atomic.Bool  // something has changed since the choice was made
	attempts atomic.Int64 // under way
	retries  atomic.Uint64
	refused  atomic.Uint64 // calls for which there was no upstream

	slots   atomic.Int64 // calls that Config.MaxInFlight has let in
	letting atomic.Int64 // letNextIn was asked so often since it last came to its end
	rooms   sync.Mutex
	waiting room // calls that it has not
	holding room // calls that wait for an upstream to become usable

	changes changeLog
	prober  *health.Prober // nil without Config.HealthURL
	probing *healthPlan

	mu      sync.Mutex // guards what follows, what members say so, and making a choice
	members []*member  // without those that were removed
	added   int        // number of the next one
}

// NewPool returns a pool for a configuration. It connects when it is first used, except for probes, which begin at once.
func NewPool(config Config) (*Pool, error) { return newPoolAt(config, time.Now) }

func newPoolAt(config Config, now func() time.Time) (*Pool, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	targets, base, err := config.upstreams()
	if err != nil {
		return nil, err
	}
	p := &Pool{config: config, options: config.transportOptions(), tls: base, policy: config.retryPolicy(), now: now, born: now()}
	p.budget.Min, p.budget.Ratio = config.RetryBudgetMin, config.RetryBudget
	p.active.options, p.active.expire = &p.options, p.expire
	p.waiting = room{mu: &p.rooms, miss: p.tooLong}
	p.holding = room{mu: &p.rooms, ready: p.usable, admit: p.attempt, miss: p.unserved}
	for i, target := range targets {
		weight := 1
		if i < len(config.Weights) {
			weight = config.Weights[i]
		}
		p.members = append(p.members, p.newMember(i, target, weight, i >= len(config.Targets)))
	}
	p.added = len(p.members)
	p.choose()
	if err := p.startProbing(); err != nil {
		return nil, err
	}
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
	if p.config.Strategy == "consistent_hash" {
		call.hash = p.hash(call)
	}
	// A limit that the deadline always comes before needs no watching.
	call.attempt.exchange.Watched = p.active.watches(call.Stream, timeout)
	call.begin()
	p.budget.Begin()
	p.active.add(call)
	switch {
	case p.closed.Load():
		p.conclude(call, closedError())
	case p.config.MaxInFlight > 0 && !p.letIn(call):
	default:
		p.attempt(call)
	}
}

// letIn takes a slot for a call. false: the call waits for one, or was refused.
func (p *Pool) letIn(call *Call) bool {
	if call.inside = p.takeSlot(); call.inside {
		return true
	}
	var until time.Time
	if p.config.PoolTimeoutMS > 0 {
		until = call.Started.Add(milliseconds(p.config.PoolTimeoutMS))
	}
	id := call.ID
	if !p.waiting.add(call, until, p.config.MaxWaiting) {
		p.conclude(call, &Error{
			Code: CodePoolExhausted, Phase: h1.PhaseQueue, RetryAfter: time.Second,
			Message: "too many requests are under way and the queue is full",
		})
		return false
	}
	p.settle(call, id)
	p.letNextIn() // a slot may have become free before the call stood in the queue
	return false
}

// settle ends a call that was cancelled before it stood in a queue.
func (p *Pool) settle(call *Call, id uint64) {
	if call.isCancelled(id) && p.dequeue(call, id) {
		p.conclude(call, call.cancelled())
	}
}

func (p *Pool) takeSlot() bool {
	for {
		taken := p.slots.Load()
		if taken >= int64(p.config.MaxInFlight) {
			return false
		}
		if p.slots.CompareAndSwap(taken, taken+1) {
			return true
		}
	}
}

// letNextIn gives free slots to the calls that wait longest. One goroutine at a time does: a call that ends at once comes
// back here, and thousands of them would be as many frames deep.
func (p *Pool) letNextIn() {
	asked := p.letting.Add(1)
	if asked > 1 {
		return // whoever is at it looks again
	}
	for {
		for p.waiting.waiting() > 0 && p.takeSlot() {
			call := p.waiting.next()
			if call == nil {
				p.slots.Add(-1)
				continue
			}
			call.inside = true
			p.attempt(call)
		}
		if p.letting.CompareAndSwap(asked, 0) {
			return
		}
		asked = p.letting.Load()
	}
}

// tooLong ends a call that has waited too long to be let in.
func (p *Pool) tooLong(call *Call) {
	p.conclude(call, &Error{
		Code: CodePoolTimeout, Phase: h1.PhaseQueue, RetryAfter: time.Second,
		Message: "too many requests were under way for too long",
	})
}

// judge asks the rules of retries about an attempt that is over.
func (p *Pool) judge(call *Call, facts *retry.Attempt) retry.Verdict {
	if p.closed.Load() {
		return retry.Verdict{Why: "the client was closed"}
	}
	return p.policy.Judge(facts, time.Until(call.deadline), &p.budget, rand.Float64)
}

// again makes the next attempt, after a pause.
func (p *Pool) again(call *Call, pause time.Duration) {
	if pause <= 0 {
		p.attempt(call)
	} else if !call.sleep(pause, func() { p.attempt(call) }) {
		p.conclude(call, call.cancelled())
	}
}

// refuse ends a call for which there is no upstream, or lets it wait for one.
func (p *Pool) refuse(call *Call) {
	if hold := milliseconds(p.config.WaitForHealthyMS); hold > 0 {
		if call.holdUntil.IsZero() {
			call.holdUntil = time.Now().Add(hold)
		}
		id := call.ID
		if p.holding.add(call, call.holdUntil, p.config.MaxWaiting) {
			p.settle(call, id)
			return
		}
	}
	p.unserved(call)
}

// unserved ends a call for which there is no upstream: with what the last attempt has met, if there was one.
func (p *Pool) unserved(call *Call) {
	err := call.last
	if err == nil {
		err = p.noUpstream()
	}
	p.conclude(call, err)
}

// noUpstream is the error of a call for which no upstream may be used now.
func (p *Pool) noUpstream() *Error {
	p.refused.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	err := &Error{Code: CodeNoHealthyTarget, Phase: h1.PhaseQueue, Message: "no target can be used now"}
	now, soonest := p.now(), time.Time{}
	for _, m := range p.members {
		if at, waiting := m.breaker.Due(); waiting && m.healthy {
			if m.breaker.Snapshot().State == breaker.HalfOpen { // whoever tries it may report any moment
				at = earlier(at, now.Add(p.config.RecoveryTimeout()))
			}
			soonest = earlier(soonest, at)
		}
	}
	if !soonest.IsZero() {
		err.RetryAfter = max(soonest.Sub(now), 0)
	}
	if len(p.members) == 1 && p.members[0].healthy && !p.members[0].draining {
		err.Code, err.Message = CodeCircuitOpen, "the upstream has failed too often"
	} else {
		err.Message += ": " + p.outOfUseLocked()
	}
	return err
}

// outOfUseLocked says why members cannot be used: how many for which reason, each counted for the first that holds.
func (p *Pool) outOfUseLocked() string {
	var unhealthy, draining, weightless, open int
	note := ""
	for _, m := range p.members {
		switch {
		case !m.healthy:
			unhealthy, note = unhealthy+1, m.probeNote
		case m.draining:
			draining++
		case m.weight == 0:
			weightless++
		default:
			open++
		}
	}
	var reasons []string
	for _, reason := range []struct {
		count int
		words string
	}{
		{unhealthy, "unhealthy (" + note + ")"}, {draining, "draining"}, {weightless, "of weight 0"}, {open, "with an open breaker"},
	} {
		if reason.count > 0 {
			reasons = append(reasons, fmt.Sprintf("%d %s", reason.count, reason.words))
		}
	}
	return fmt.Sprintf("of %d: %s", len(p.members), strings.Join(reasons, ", "))
}

// conclude ends a call.
func (p *Pool) conclude(call *Call, err *Error) {
	if call.attempt.retry {
		call.attempt.retry = false
		p.budget.EndRetry()
	}
	if source := call.Request.Source; source != nil {
		source.Close()
	}
	call.end()
	p.budget.End()
	p.active.remove(call, err == nil)
	inside := call.inside
	if inside {
		p.slots.Add(-1)
	}
	call.Sink.Done(call.withSent(err)) // from here on the call may be another one
	if inside {
		p.letNextIn()
	}
}

// expire ends the calls that have reached a limit.
func (p *Pool) expire() {
	defer h1.Recover()
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
	if p.prober != nil {
		p.prober.Stop()
	}
	p.mu.Lock()
	members := slices.Clone(p.members)
	p.mu.Unlock()
	for _, m := range members {
		m.close()
	}
	p.active.stop()
	p.changes.close()
}

// hash is the hash of the key by which consistent_hash chooses: the caller's, or what Config.HashOn names; at random without.
func (p *Pool) hash(call *Call) uint64 {
	key := call.Key
	if len(key) == 0 && p.config.HashOn != "" && p.config.HashOn != "key" {
		key = hashField(call.Request.Fields, p.config.HashOn)
	}
	if len(key) == 0 {
		return rand.Uint64()
	}
	return balance.HashKey(key)
}
