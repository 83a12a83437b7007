package core

import (
	"sync"
	"time"

	"github.com/velithon/velithon-proxy/core/h1"
)

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

// watches reports whether some limit could end a call before its deadline does, so that it is worth being noted what
// the call waits for.
func (l *callList) watches(stream bool, timeout time.Duration) bool {
	shortest, ok := l.options.Shortest()
	return ok && (stream || shortest < timeout)
}

// add notes a call and makes sure that expire runs when one of its limits may be reached.
func (l *callList) add(c *Call) {
	first := c.deadline
	if c.attempt.exchange.Watched {
		shortest, _ := l.options.Shortest()
		first = earlier(first, c.Started.Add(shortest))
	}
	l.mu.Lock()
	c.prev, c.next = nil, l.first
	if l.first != nil {
		l.first.prev = c
	}
	l.first = c
	l.size++
	if l.armed.IsZero() || first.Before(l.armed) {
		l.arm(first)
	}
	l.mu.Unlock()
}

// limitTry limits the attempt of a call that is about to begin.
func (l *callList) limitTry(c *Call, until time.Time) {
	l.mu.Lock()
	c.tryUntil = until
	if l.armed.IsZero() || until.Before(l.armed) {
		l.arm(until)
	}
	l.mu.Unlock()
}

// relax takes the limit of its attempt from a call that is being answered, and if it is endless its deadline as well: only
// the waits of its exchange are limited from now on.
func (l *callList) relax(c *Call, endless bool) {
	l.mu.Lock()
	c.tryUntil = time.Time{}
	if endless {
		c.deadline = time.Time{}
	}
	l.mu.Unlock()
}

// expireAgain is when a call that is past its deadline but still there is cancelled once more.
const expireAgain = 10 * time.Millisecond

func (l *callList) arm(at time.Time) {
	l.armed = at
	if l.timer == nil {
		l.timer = time.AfterFunc(time.Until(at), l.expire)
	} else {
		l.timer.Reset(time.Until(at))
	}
}

func (l *callList) remove(c *Call, ok bool) {
	l.mu.Lock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	l.size--
	l.done++
	if !ok {
		l.fails++
	}
	l.mu.Unlock()
}

// expired returns the calls that have reached a limit and arms the timer for the next one.
func (l *callList) expired(now time.Time) []dueCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	var due []dueCall
	var next time.Time
	// A call that has not come as far as its exchange yet ignores the cancel: look again soon.
	soon, patience := now.Add(expireAgain), now.Add(l.patience())
	for c := l.first; c != nil; c = c.next {
		exchange := c.exchangeID() // before its limits: those of a later attempt must not end it
		var watch time.Time
		switch {
		case !c.deadline.IsZero() && !now.Before(c.deadline):
			due = append(due, dueCall{call: c, id: c.ID, cause: errDeadline})
			next = earlier(next, soon)
			continue
		case !c.tryUntil.IsZero() && !now.Before(c.tryUntil):
			due = append(due, dueCall{call: c, exchange: exchange, cause: errTryTimeout})
			next = earlier(next, soon)
			continue
		case c.attempt.exchange.Watched:
			overdue, at := c.attempt.exchange.Overdue(l.options, now)
			if overdue != nil {
				due = append(due, dueCall{call: c, exchange: exchange, cause: overdue})
				next = earlier(next, soon)
				continue
			}
			if watch = at; watch.Before(patience) {
				watch = patience
			}
		}
		next = earlier(earlier(earlier(next, c.deadline), c.tryUntil), watch)
	}
	l.armed = time.Time{}
	if !next.IsZero() {
		l.arm(next)
	}
	return due
}

// patience is how late a wait may be found to be too long. Waits begin and end all the time; each could ask for a look
// of its own at all calls.
func (l *callList) patience() time.Duration {
	shortest, _ := l.options.Shortest()
	return min(max(shortest/16, time.Millisecond), 100*time.Millisecond)
}

// earlier is the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// all returns the calls under way, to be cancelled with cause.
func (l *callList) all(cause error) []dueCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := make([]dueCall, 0, l.size)
	for c := l.first; c != nil; c = c.next {
		calls = append(calls, dueCall{call: c, id: c.ID, cause: cause})
	}
	return calls
}

// stop forgets the timer.
func (l *callList) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
}

// dueCall names one use of a Call, or one exchange of it: by the time it is cancelled the Call may serve another request.
type dueCall struct {
	call     *Call
	id       uint64 // of the call
	exchange uint64 // of its exchange, if only that is over
	cause    error
}

func (d dueCall) cancel() {
	switch {
	case d.id != 0:
		d.call.cancel(d.id, d.cause)
	case d.exchange != 0:
		d.call.attempt.exchange.Cancel(d.exchange, d.cause)
	}
}
