package h1

import (
	"sync/atomic"
	"time"
)

// wait is something of an exchange that can take too long by itself, however much of its deadline is left.
type wait uint8

const (
	waitQueue wait = iota // for a connection
	waitHead              // for the first byte of the response, once the request was sent
	waitSend              // for the upstream to take more of the request
	waitBody              // for the upstream to send more of the body
	waitKinds
)

// waits notes since when an exchange waits for what; zero while it does not. Times are monotonic, in nanoseconds since
// epoch. It is written by the goroutines of the exchange and read by Overdue, without a lock.
type waits [waitKinds]atomic.Int64

var epoch = time.Now()

// answered in waits[waitHead] says that the response has begun: the wait cannot begin any more.
const answered = -1

func (w *waits) begin(what wait) { w[what].CompareAndSwap(0, int64(time.Since(epoch))) }
func (w *waits) end(what wait)   { w[what].Store(0) }

func (w *waits) reset() {
	for what := range w {
		w[what].Store(0)
	}
}

// Overdue says what an exchange with these options has been waiting for too long, and otherwise when it could be at the
// earliest. It may be asked at any time from any goroutine; only an exchange that is Watched answers.
func (ex *Exchange) Overdue(options *Options, now time.Time) (err *Error, next time.Time) {
	at := now.Sub(epoch)
	soonest := time.Duration(-1)
	for what := range waitKinds {
		limit := options.limit(what)
		if limit <= 0 {
			continue
		}
		left := limit // of a wait that begins now
		if since := ex.waits[what].Load(); since > 0 {
			left = time.Duration(since) + limit - at
		}
		if left <= 0 {
			return overdue[what], time.Time{}
		}
		if soonest < 0 || left < soonest {
			soonest = left
		}
	}
	if soonest < 0 {
		return nil, time.Time{}
	}
	return nil, now.Add(soonest)
}

// Shortest is the shortest limit of a wait; not ok without any.
func (o *Options) Shortest() (shortest time.Duration, ok bool) {
	for what := range waitKinds {
		if limit := o.limit(what); limit > 0 && (!ok || limit < shortest) {
			shortest, ok = limit, true
		}
	}
	return shortest, ok
}

func (o *Options) limit(what wait) time.Duration {
	switch what {
	case waitQueue:
		return o.PoolTimeout
	case waitHead:
		return o.FirstByteTimeout
	default:
		return o.IdleTimeout
	}
}

var overdue = [waitKinds]*Error{
	waitQueue: {Kind: KindPoolTimeout, Phase: PhaseQueue, Message: "no connection became free in time"},
	waitHead:  {Kind: KindReadTimeout, Message: "the upstream did not begin to answer in time"},
	waitSend:  {Kind: KindReadTimeout, Message: "the upstream took nothing more of the request in time"},
	waitBody:  {Kind: KindReadTimeout, Message: "the upstream sent nothing more of the body in time"},
}
