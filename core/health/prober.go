package health

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Result is what one probe found out.
type Result struct {
	OK     bool          // the target can serve; false if Err is set
	Status int           // the HTTP status of the answer, 0 if there was none
	Err    error         // why there was no answer
	Took   time.Duration // set by the prober
}

// Probe probes a target and must return when ctx is done, which it is after Settings.Timeout; a result that comes later
// is a failure. A probe that panics has failed.
type Probe func(ctx context.Context, target int) Result

// Changed is told that the verdict on a target has changed. See the package's doc on what it may call. If it panics,
// the Err of the target's last result says so.
type Changed func(target int, healthy bool)

// State is what is known about a target.
type State struct {
	Target  int
	Healthy bool
	Known   bool   // it has been probed
	Last    Result // of the latest probe, zero if not Known
}

// Prober probes targets until it is stopped. A target is named by the number that Add returned; the first ones have
// numbers from 0 on, and none is used again.
type Prober struct {
	settings Settings
	probe    Probe
	changed  Changed

	ctx     context.Context // ends with Stop
	cancel  context.CancelFunc
	running sync.WaitGroup // all goroutines, those of RunNow too

	mu      sync.Mutex
	targets []*target // in the order they were added
	added   int
	started time.Time // zero before Start
}

// NewProber returns a prober of so many targets that does nothing yet. It must be stopped, also if it is never started.
// The error is that of Settings.Check.
func NewProber(settings Settings, targets int, probe Probe, changed Changed) (*Prober, error) {
	if err := settings.Check(); err != nil {
		return nil, err
	}
	p := &Prober{settings: settings, probe: probe, changed: changed}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for range targets {
		p.Add()
	}
	return p, nil
}

// Start begins to probe. It does nothing when it has been called before, or Stop has.
func (p *Prober) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped() || !p.started.IsZero() {
		return
	}
	p.started = time.Now()
	for _, t := range p.targets {
		p.running.Go(func() { p.repeat(t) })
	}
}

// Stop cancels the probes that are under way and returns when no goroutine is left. Their results are dropped, and the
// callback is not called any more. It may be called again.
func (p *Prober) Stop() {
	p.mu.Lock() // so that no goroutine is added beside Wait
	p.cancel()
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Prober) stopped() bool {
	return p.ctx.Err() != nil
}

// Add returns the number of a new target. It is healthy and unknown, and is probed at once if the prober is running.
func (p *Prober) Add() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &target{
		number:  p.added,
		telling: make(chan struct{}, 1),
		tracker: NewTracker(p.settings.Rise, p.settings.Fall),
	}
	t.ctx, t.cancel = context.WithCancel(p.ctx)
	p.added++
	p.targets = append(p.targets, t)
	if !p.started.IsZero() && !p.stopped() {
		p.running.Go(func() { p.repeat(t) })
	}
	return t.number
}

// Remove forgets a target; its probe is cancelled. It does not wait: a call of the callback that is on its way may
// still arrive. Numbers that are not in use are ignored.
func (p *Prober) Remove(number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = slices.DeleteFunc(p.targets, func(t *target) bool {
		if t.number == number {
			t.cancel()
		}
		return t.number == number
	})
}

// States returns what is known about all targets, in the order they were added.
func (p *Prober) States() []State {
	p.mu.Lock()
	targets := slices.Clone(p.targets)
	p.mu.Unlock()
	states := make([]State, len(targets))
	for i, t := range targets {
		states[i] = t.state()
	}
	return states
}

// RunNow probes all targets at once, waits for the results and applies each as a verdict, whatever the thresholds say.
// It works before Start too. It returns the state of each target by its probe, in the order they were added; one that
// is removed meanwhile is left out. If ctx or the prober ends first the error is that of ctx or ErrStopped; the
// verdicts that were there by then have been applied.
func (p *Prober) RunNow(ctx context.Context) ([]State, error) {
	p.mu.Lock()
	if p.stopped() {
		p.mu.Unlock()
		return nil, ErrStopped
	}
	targets := slices.Clone(p.targets)
	states, applied := make([]State, len(targets)), make([]bool, len(targets))
	var round sync.WaitGroup
	for i, t := range targets {
		round.Add(1)
		p.running.Go(func() {
			defer round.Done()
			states[i], applied[i] = p.once(ctx, t)
		})
	}
	p.mu.Unlock()
	round.Wait()
	kept := states[:0]
	for i, state := range states {
		switch {
		case applied[i]:
			kept = append(kept, state)
		case p.stopped():
			return nil, ErrStopped
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
	return kept, nil
}
