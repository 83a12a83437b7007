package core

import "time"

// add notes a call and makes sure that expire runs at its deadline.
func (l *callList) add(c *Call, expire func()) {
	l.mu.Lock()
	c.prev, c.next = nil, l.first
	if l.first != nil {
		l.first.prev = c
	}
	l.first = c
	l.size++
	if l.armed.IsZero() || c.deadline.Before(l.armed) {
		l.arm(c.deadline, expire)
	}
	l.mu.Unlock()
}

// expireAgain is when a call that is past its deadline but still there is cancelled once more.
const expireAgain = 10 * time.Millisecond

func (l *callList) arm(at time.Time, expire func()) {
	l.armed = at
	if l.timer == nil {
		l.timer = time.AfterFunc(time.Until(at), expire)
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

// expired returns the calls whose deadline has passed and arms the timer for the next one.
func (l *callList) expired(now time.Time, expire func()) []dueCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	var due []dueCall
	var next time.Time
	for c := l.first; c != nil; c = c.next {
		switch {
		case !now.Before(c.deadline):
			due = append(due, dueCall{c, c.ID})
			// A call that has not come as far as its exchange yet ignores the cancel: look again soon.
			if soon := now.Add(expireAgain); next.IsZero() || soon.Before(next) {
				next = soon
			}
		case next.IsZero() || c.deadline.Before(next):
			next = c.deadline
		}
	}
	l.armed = time.Time{}
	if !next.IsZero() {
		l.arm(next, expire)
	}
	return due
}

// all returns the calls under way.
func (l *callList) all() []dueCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := make([]dueCall, 0, l.size)
	for c := l.first; c != nil; c = c.next {
		calls = append(calls, dueCall{c, c.ID})
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

// dueCall names one use of a Call: by the time it is cancelled the Call may serve another request.
type dueCall struct {
	call *Call
	id   uint64
}

func (d dueCall) cancel(cause error) { d.call.attempt.exchange.Cancel(d.id, cause) }
