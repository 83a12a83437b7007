package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

type target struct {
	number int
	ctx    context.Context // ends with Remove and Stop
	cancel context.CancelFunc

	// telling has one place, which is taken from a result until the callback has returned. Without it two results at the
	// same time could tell their changes in the wrong order. mu is not held meanwhile: the callback may ask for states. It
	// is no mutex, so that one who waits for a slow callback can give up.
	telling chan struct{}

	mu      sync.Mutex
	tracker Tracker
	last    Result
}

func (t *target) state() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return State{Target: t.number, Healthy: t.tracker.Healthy(), Known: t.tracker.Known(), Last: t.last}
}

// repeat probes a target now and in each of its turns, until it is removed or the prober stopped.
func (p *Prober) repeat(t *target) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-timer.C:
		}
		if t.ctx.Err() != nil {
			return // both were ready, and select takes either
		}
		began := time.Since(p.started)
		result := p.measure(t.ctx, t.number)
		p.apply(t.ctx, t, result, (*Tracker).Report)
		timer.Reset(p.settings.due(t.number, began, rand.Float64()) - time.Since(p.started))
	}
}

// once probes a target beside its turns and makes the result its verdict. applied is false if the probe was cut short.
func (p *Prober) once(ctx context.Context, t *target) (state State, applied bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cancelled := make(chan struct{})
	release := context.AfterFunc(t.ctx, func() {
		cancel()
		close(cancelled)
	})
	defer func() {
		if !release() {
			<-cancelled // Stop waits for this goroutine and leaves none behind
		}
	}()
	return p.apply(ctx, t, p.measure(ctx, t.number), (*Tracker).Force)
}

// measure runs one probe.
func (p *Prober) measure(ctx context.Context, number int) (result Result) {
	ctx, cancel := context.WithTimeout(ctx, p.settings.Timeout)
	defer cancel()
	began := time.Now()
	defer func() {
		if cause := recover(); cause != nil {
			result = Result{Err: fmt.Errorf("health: the probe panicked: %v", cause)}
		}
		if result.Err == nil {
			result.Err = ctx.Err() // an answer after the timeout
		}
		if result.Err != nil {
			result.OK = false
		}
		result.Took = time.Since(began)
	}()
	return p.probe(ctx, number)
}

// apply gives a result to the tracker and tells a change. A result of a probe whose ctx has ended is dropped: it is the
// prober's doing and not the target's.
func (p *Prober) apply(
	ctx context.Context, t *target, result Result, judge func(*Tracker, bool) (changed, healthy bool),
) (state State, applied bool) {
	select {
	case t.telling <- struct{}{}:
		defer func() { <-t.telling }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil || t.ctx.Err() != nil {
		return State{}, false
	}
	t.mu.Lock()
	changed, healthy := judge(&t.tracker, result.OK)
	t.last = result
	t.mu.Unlock()
	if changed {
		p.tell(t, healthy)
	}
	return t.state(), true
}

func (p *Prober) tell(t *target, healthy bool) {
	defer func() {
		// A mistake in the callback must not end the process the pool lives in, nor may it go unseen.
		if cause := recover(); cause != nil {
			t.mu.Lock()
			t.last.Err = fmt.Errorf("health: the callback panicked: %v", cause)
			t.mu.Unlock()
		}
	}()
	p.changed(t.number, healthy)
}
