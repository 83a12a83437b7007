package core

import (
	"sync"
	"time"

	"github.com/velithon/velithon-proxy/core/h1"
)

// room is a queue of calls that wait for something of the pool's: first in, first out.
type room struct {
	ready func() bool      // asked on every look whether the first call may go on; nil: only next lets it
	admit func(call *Call) // lets a call go on
	miss  func(call *Call) // ends a call that has waited too long

	mu          *sync.Mutex // of all rooms of the pool
	first, last *Call
	size        int
	timer       *time.Timer
}

// place is where a call stands in a room; zero: in none.
type place struct {
	room       *room
	until      time.Time // zero: only the call's own deadline counts
	prev, next *Call
}

// lookEvery is how often a room looks whether its calls may go on or have waited for too long.
const lookEvery = 20 * time.Millisecond

// add lets a call wait, if fewer than most do.
func (r *room) add(call *Call, until time.Time, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size >= most {
		return false
	}
	call.place = place{room: r, until: until, prev: r.last}
	if r.last == nil {
		r.first = call
	} else {
		r.last.place.next = call
	}
	r.last = call
	if r.size++; r.size == 1 && (r.ready != nil || !until.IsZero()) {
		r.lookLater()
	}
	return true
}

func (r *room) lookLater() {
	if r.timer == nil {
		r.timer = time.AfterFunc(lookEvery, r.look)
	} else {
		r.timer.Reset(lookEvery)
	}
}

// dequeue removes the call with this ID from the room it waits in; false: it does not wait.
func (p *Pool) dequeue(call *Call, id uint64) bool {
	p.rooms.Lock()
	defer p.rooms.Unlock()
	if call.place.room == nil || call.ID != id {
		return false
	}
	call.place.room.remove(call)
	return true
}

func (r *room) remove(call *Call) {
	at := call.place
	if at.prev == nil {
		r.first = at.next
	} else {
		at.prev.place.next = at.next
	}
	if at.next == nil {
		r.last = at.prev
	} else {
		at.next.place.prev = at.prev
	}
	call.place = place{}
	r.size--
}

// next removes the call that waits longest; nil: none does.
func (r *room) next() *Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	call := r.first
	if call != nil {
		r.remove(call)
	}
	return call
}

// look lets go on what may, and ends what has waited too long.
func (r *room) look() {
	defer h1.Recover()
	for turns := r.waiting(); ; turns-- { // those that were let go may be back: each gets one turn
		call, late := r.due(turns > 0)
		switch {
		case call == nil:
			return
		case late:
			r.miss(call)
		default:
			r.admit(call)
		}
	}
}

// due removes the first call if it has waited too long, or, as far as it may, if it can go on. Otherwise it is looked at later.
func (r *room) due(may bool) (call *Call, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if call = r.first; call == nil {
		return nil, false
	}
	waits := true
	defer func() {
		if waits { // also when ready has panicked
			r.lookLater()
		}
	}()
	// All may wait equally long: the first one is the first to be late.
	late = !call.place.until.IsZero() && !time.Now().Before(call.place.until)
	if !late && (r.ready == nil || !may || !r.ready()) {
		return nil, false
	}
	waits = false
	r.remove(call)
	return call, late
}

// waiting is how many calls wait.
func (r *room) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size
}
