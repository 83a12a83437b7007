package breaker

import (
	"sync"
	"sync/atomic"
	"time"
)

// State is what a breaker lets through.
type State uint8

// The states: everything, nothing, and a few probes.
const (
	Closed State = iota
	Open
	HalfOpen
)

var stateNames = [...]string{"closed", "open", "half_open"}

func (s State) String() string { return stateNames[s] }

// Settings of a breaker. All but those said to be optional must be positive.
type Settings struct {
	// MaxFailures is how many failures in a row open the breaker. Not used when Ratio is set.
	MaxFailures int
	// Ratio, above 0 and at most 1, opens it by the share of failures within Window instead, once there are MinSamples.
	Ratio      float64
	Window     time.Duration
	MinSamples int
	// OpenTime is how long it refuses. The k-th opening in a row, without a success between them, takes k times as long,
	// at most MaxOpenTime; zero: always OpenTime.
	OpenTime    time.Duration
	MaxOpenTime time.Duration
	// MaxProbes is how many requests are let through at a time while it is half-open.
	MaxProbes int
	// Lease is the time within which a probe must report.
	Lease time.Duration
}

// Change is a change of state.
type Change struct {
	From, To   State
	Generation uint64 // the one that begins
	At         time.Time
	Reason     string
}

// Breaker is the breaker of one upstream. Use New.
type Breaker struct {
	settings Settings
	now      func() time.Time
	observe  func(Change)

	// quiet is the generation while the breaker is closed and has nothing to forget, else 0: then Admit and Success need
	// no lock.
	quiet atomic.Uint64

	mu         sync.Mutex
	state      State
	generation uint64
	failures   int // in a row
	window     window
	last       time.Time // of the last failure
	openings   int       // in a row
	due        time.Time // when an open one lets a probe through
	probes     []probe
	probeID    uint64
}

// probe is a permit that is out while the breaker is half-open.
type probe struct {
	id    uint64
	until time.Time
}

// New returns a closed breaker. now is its clock. observe, if there is one, is told of every change, in order and under the
// breaker's lock: it must not wait, nor call the breaker.
func New(settings Settings, now func() time.Time, observe func(Change)) *Breaker {
	b := &Breaker{settings: settings, now: now, observe: observe, generation: 1}
	b.window.width = settings.Window / buckets
	b.quiet.Store(1)
	return b
}

// Permit is what Admit gives. The zero Permit is one that is over.
type Permit struct {
	breaker    *Breaker
	generation uint64
	probe      uint64 // zero: not given to a probe
}

// Admit asks whether a request may be sent, and fills permit if so. Otherwise it says after what time to ask again; zero
// means soon, when a probe has reported.
func (b *Breaker) Admit(permit *Permit) (retryAfter time.Duration, ok bool) {
	if generation := b.quiet.Load(); generation != 0 {
		*permit = Permit{breaker: b, generation: generation}
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.state == Open {
		if now.Before(b.due) {
			return b.due.Sub(now), false
		}
		b.change(HalfOpen, now, "the time to be open is over")
	}
	*permit = Permit{breaker: b, generation: b.generation}
	if b.state == Closed {
		return 0, true
	}
	b.expire(now)
	if len(b.probes) >= b.settings.MaxProbes {
		*permit = Permit{}
		return 0, false
	}
	b.probeID++
	permit.probe = b.probeID
	b.probes = append(b.probes, probe{b.probeID, now.Add(b.settings.Lease)})
	return 0, true
}

// Success ends the permit of a request that went well.
func (p *Permit) Success() {
	b := p.breaker
	if b == nil {
		return
	}
	if p.probe == 0 && b.quiet.Load() == p.generation && b.settings.Ratio == 0 {
		p.breaker = nil
		return
	}
	b.end(p, func(now time.Time) {
		b.failures = 0
		b.window.add(now, false)
		if b.state == HalfOpen {
			b.openings = 0
			b.change(Closed, now, "a probe succeeded")
		}
		b.settle()
	})
}

// Failure ends the permit of a request that failed for a reason of the upstream's.
func (p *Permit) Failure(reason string) {
	b := p.breaker
	if b == nil {
		return
	}
	b.end(p, func(now time.Time) {
		b.quiet.Store(0)
		b.last = now
		b.failures++
		b.window.add(now, true)
		if b.state == HalfOpen || b.tripped(now) {
			b.open(now, reason)
		}
	})
}

// Ignore ends the permit of a request that says nothing about the upstream: the caller left, or it was never sent.
func (p *Permit) Ignore() {
	if b := p.breaker; b != nil {
		b.end(p, func(time.Time) {})
	}
}

// Probing reports whether the permit lets a request try a half-open breaker.
func (p *Permit) Probing() bool { return p.breaker != nil && p.probe != 0 }

// end runs count for a permit of the current generation, once, and frees its place among the probes.
func (b *Breaker) end(p *Permit, count func(now time.Time)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ended := *p
	p.breaker = nil
	if ended.generation != b.generation {
		return
	}
	now := b.now()
	if b.state == HalfOpen {
		b.expire(now)
		if !b.free(ended.probe) {
			return // it was taken for lost
		}
	}
	count(now)
}

// tripped reports whether the failures reach the limit.
func (b *Breaker) tripped(now time.Time) bool {
	if b.settings.Ratio == 0 {
		return b.failures >= b.settings.MaxFailures
	}
	failures, samples := b.window.count(now)
	return samples >= b.settings.MinSamples && float64(failures) >= b.settings.Ratio*float64(samples)
}

// open begins a time in which nothing is let through.
func (b *Breaker) open(now time.Time, reason string) {
	b.openings++
	pause := b.settings.OpenTime
	if b.settings.MaxOpenTime > 0 {
		pause = max(pause, min(pause*time.Duration(b.openings), b.settings.MaxOpenTime))
	}
	b.due = now.Add(pause)
	b.change(Open, now, reason)
}

// change begins another state, and with it another generation.
func (b *Breaker) change(to State, now time.Time, reason string) {
	from := b.state
	b.state = to
	b.generation++
	b.quiet.Store(0)
	b.probes = b.probes[:0]
	if to == Closed {
		b.failures = 0
		b.window.clear()
	}
	if b.observe != nil {
		b.observe(Change{From: from, To: to, Generation: b.generation, At: now, Reason: reason})
	}
}

// settle lets Admit go without the lock when there is nothing to look at.
func (b *Breaker) settle() {
	if b.state == Closed && b.failures == 0 {
		b.quiet.Store(b.generation)
	}
}

// expire takes probes that have not reported in time for lost.
func (b *Breaker) expire(now time.Time) {
	kept := b.probes[:0]
	for _, p := range b.probes {
		if now.Before(p.until) {
			kept = append(kept, p)
		}
	}
	b.probes = kept
}

// free gives back the place of a probe; false if it has none any more.
func (b *Breaker) free(id uint64) bool {
	for i, p := range b.probes {
		if p.id == id {
			b.probes = append(b.probes[:i], b.probes[i+1:]...)
			return true
		}
	}
	return false
}

// Reset closes the breaker and forgets what it has counted. Permits that are out do not count any more.
func (b *Breaker) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Time{}
	b.reset("reset")
}

// Recover is Reset for an upstream that something else has found to be well, if the breaker is not closed and still in the
// generation in which that began to look: what it found says nothing about a later opening.
func (b *Breaker) Recover(generation uint64, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != Closed && b.generation == generation {
		b.reset(reason)
	}
}

// Generation is the number of the current state.
func (b *Breaker) Generation() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.generation
}

func (b *Breaker) reset(reason string) {
	b.openings = 0
	if b.state != Closed {
		b.change(Closed, b.now(), reason)
	} else {
		b.generation++
		b.failures = 0
		b.window.clear()
	}
	b.settle()
}

// Usable reports whether Admit would possibly let a request through.
func (b *Breaker) Usable(now time.Time) bool {
	if b.quiet.Load() != 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case Open:
		return !now.Before(b.due)
	case HalfOpen:
		b.expire(now)
		return len(b.probes) < b.settings.MaxProbes
	}
	return true
}

// Due says when a breaker that lets nothing through now will do so again at the earliest; not waiting if it does.
func (b *Breaker) Due() (at time.Time, waiting bool) {
	if b.quiet.Load() != 0 {
		return time.Time{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.state == Open:
		return b.due, true
	case b.state == HalfOpen && len(b.probes) >= b.settings.MaxProbes:
		return b.probes[0].until, true // the oldest one
	}
	return time.Time{}, false
}

// Snapshot is the state of a breaker at one moment.
type Snapshot struct {
	State       State
	Generation  uint64
	Failures    int           // in a row, or within the window
	LastFailure time.Time     // zero: none
	Probes      int           // permits that are out while it is half-open
	RetryAfter  time.Duration // until an open one lets a probe through
}

// Snapshot returns the state of the breaker.
func (b *Breaker) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	s := Snapshot{State: b.state, Generation: b.generation, Failures: b.failures, LastFailure: b.last}
	if b.settings.Ratio > 0 {
		s.Failures, _ = b.window.count(now)
	}
	switch b.state {
	case Open:
		s.RetryAfter = max(b.due.Sub(now), 0)
	case HalfOpen:
		b.expire(now)
		s.Probes = len(b.probes)
	}
	return s
}
