package core

import (
	"context"
	"sync"
	"time"
)

// Change is a change of the state of an upstream.
type Change struct {
	Upstream int    // number, see Pool
	Target   string // as it was given
	What     string // "breaker" or "health"
	Before   string // "closed", "open" or "half_open"; "healthy" or "unhealthy"
	After    string
	Reason   string
	At       time.Time
}

// keptChanges is how many changes wait for whoever wants to know; the oldest are forgotten first.
const keptChanges = 1024

// changeLog numbers the changes of a pool from 1.
type changeLog struct {
	mu     sync.Mutex
	kept   []Change
	last   uint64 // number of the newest one
	closed bool
	news   chan struct{} // closed by the next change; nil: nobody waits
}

// add may run under a lock of the caller's: it does not wait.
func (l *changeLog) add(change Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == keptChanges {
		l.kept = append(l.kept[:0], l.kept[1:]...)
	}
	l.kept = append(l.kept, change)
	l.last++
	l.tell()
}

func (l *changeLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.tell()
}

func (l *changeLog) tell() {
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
}

// wait returns the changes after the one with the number since, and the number of the last of them.
func (l *changeLog) wait(ctx context.Context, since uint64) ([]Change, uint64, error) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, 0, errPoolClosed
		}
		if l.last > since {
			fresh := l.kept[len(l.kept)-min(int(l.last-since), len(l.kept)):]
			changes, last := append([]Change(nil), fresh...), l.last
			l.mu.Unlock()
			return changes, last, nil
		}
		if l.news == nil {
			l.news = make(chan struct{})
		}
		news := l.news
		l.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Changes waits for changes of the states of upstreams that came after the one with the number since, and returns them in
// order with the number of the last. The first change of a pool has the number 1. Of very many the oldest are missing.
func (p *Pool) Changes(ctx context.Context, since uint64) ([]Change, uint64, error) {
	return p.changes.wait(ctx, since)
}
