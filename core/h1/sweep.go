package h1

import (
	"slices"
	"time"
)

// quietTime is how long a connection above MaxIdle must have been idle before it is closed: bursts come again.
const quietTime = 3 * time.Second

// soon is when connections that ended while idle are forgotten; they tend to end together.
const soon = 100 * time.Millisecond

func (t *Transport) sweepInterval() time.Duration {
	return min(t.options.KeepAlive/4, quietTime) + time.Millisecond
}

func (t *Transport) scheduleSweepLocked(in time.Duration) {
	if at := time.Now().Add(in); t.nextSweep.IsZero() || at.Before(t.nextSweep.Add(-soon)) {
		t.nextSweep = at
		time.AfterFunc(in, t.sweep)
	}
}

// ended notes that an idle connection ended by itself.
func (t *Transport) ended() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scheduleSweepLocked(soon)
}

// sweep closes connections that have been idle for too long or are too many, and forgets those that ended. It runs as
// long as there are idle connections.
func (t *Transport) sweep() {
	defer Recover()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextSweep = time.Time{}
	if t.closed {
		return
	}
	if t.resolver != nil {
		t.resolver.refresh()
	}
	now := time.Since(epoch)
	var kept []*conn
	_, idle := t.idle.size()
	for range idle { // the one that became idle last comes first
		c, err := t.idle.take()
		if err != nil {
			break
		}
		idleFor := now - c.idle
		surplus := len(kept) >= t.options.MaxIdle && idleFor >= quietTime
		switch {
		case c.state.Load() != connIdle || c.stale():
			// A FIN that came together with the response made no event of its own.
			t.drop(c)
		case (surplus || idleFor >= t.options.KeepAlive || !t.fresh(c)) && c.state.CompareAndSwap(connIdle, connDead):
			t.drop(c)
		default:
			kept = append(kept, c)
		}
	}
	for _, c := range slices.Backward(kept) {
		c.lease.release()
	}
	if len(kept) > 0 {
		t.scheduleSweepLocked(t.sweepInterval())
	}
}
