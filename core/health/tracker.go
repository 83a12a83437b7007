package health

// Tracker turns the results of one target's probes into a verdict. It is pure: no clock, no lock. A new one is healthy
// and unknown.
type Tracker struct {
	rise, fall int
	unhealthy  bool
	known      bool
	against    int // results in a row that contradict the verdict
}

// NewTracker returns a tracker that turns unhealthy after fall failures in a row and healthy again after rise successes
// in a row. Both are at least 1.
func NewTracker(rise, fall int) Tracker {
	return Tracker{rise: rise, fall: fall}
}

// Report adds the result of a probe. It returns whether the verdict has changed by it, and the verdict.
func (t *Tracker) Report(ok bool) (changed, healthy bool) {
	t.known = true
	if ok == t.Healthy() {
		t.against = 0
		return false, ok
	}
	t.against++
	threshold := t.fall
	if t.unhealthy {
		threshold = t.rise
	}
	if t.against < threshold {
		return false, !ok
	}
	return t.Force(ok)
}

// Force sets the verdict whatever the thresholds say; counting begins anew. It returns the same as Report.
func (t *Tracker) Force(ok bool) (changed, healthy bool) {
	changed = ok != t.Healthy()
	t.known, t.unhealthy, t.against = true, !ok, 0
	return changed, ok
}

// Healthy returns the verdict; true while nothing is known.
func (t *Tracker) Healthy() bool {
	return !t.unhealthy
}

// Known returns whether any result has been reported or forced.
func (t *Tracker) Known() bool {
	return t.known
}
