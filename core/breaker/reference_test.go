package breaker

import "time"

// reference says in a few lines what a breaker with consecutive failures must do. It is a value: a step makes another
// one, so that a search may go back.
type reference struct {
	settings   Settings
	now        time.Duration
	state      State
	generation uint64
	failures   int
	due        time.Duration
	given      uint64 // probes, in all
	probes     [3]lease
	out        int // of probes
}

type lease struct {
	id    uint64
	until time.Duration
}

func newReference(settings Settings) reference { return reference{settings: settings, generation: 1} }

func (r *reference) become(to State) {
	r.state, r.out = to, 0
	r.generation++
	switch to {
	case Closed:
		r.failures = 0
	case Open:
		r.due = r.now + r.settings.OpenTime
	case HalfOpen:
	}
}

func (r *reference) expire() {
	r.keep(func(l lease) bool { return r.now < l.until })
}

func (r *reference) keep(wanted func(lease) bool) {
	kept := [3]lease{}
	n := 0
	for _, l := range r.probes[:r.out] {
		if wanted(l) {
			kept[n] = l
			n++
		}
	}
	r.probes, r.out = kept, n
}

// admit returns the generation of the permit and the number of the probe, zero for none.
func (r *reference) admit() (generation, probe uint64, ok bool) {
	if r.state == Open {
		if r.now < r.due {
			return 0, 0, false
		}
		r.become(HalfOpen)
	}
	if r.state == Closed {
		return r.generation, 0, true
	}
	r.expire()
	if r.out >= r.settings.MaxProbes {
		return 0, 0, false
	}
	r.given++
	r.probes[r.out] = lease{r.given, r.now + r.settings.Lease}
	r.out++
	return r.generation, r.given, true
}

// counts takes the place of a permit back and reports whether its outcome counts.
func (r *reference) counts(generation, probe uint64) bool {
	if generation != r.generation {
		return false
	}
	if r.state != HalfOpen {
		return true
	}
	r.expire()
	before := r.out
	r.keep(func(l lease) bool { return l.id != probe })
	return r.out < before
}

func (r *reference) success(generation, probe uint64) {
	if r.counts(generation, probe) {
		r.failures = 0
		if r.state == HalfOpen {
			r.become(Closed)
		}
	}
}

func (r *reference) failure(generation, probe uint64) {
	if r.counts(generation, probe) {
		r.failures++
		if r.state == HalfOpen || r.failures >= r.settings.MaxFailures {
			r.become(Open)
		}
	}
}

func (r *reference) reset() {
	if r.state != Closed {
		r.become(Closed)
		return
	}
	r.generation++
	r.failures = 0
}
