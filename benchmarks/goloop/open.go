package main

import (
	"time"

	"github.com/valyala/fasthttp"
)

// openWorkers bounds the requests of an open loop that are in flight; those that wait for a worker are late, and their
// latency says so.
const openWorkers = 512

// openWindow measures an open loop: a request is due each 1/rate seconds, whatever has become of those before it. A
// latency begins when its request was due, not when it was sent, so that a pause of the server counts for every request
// that falls into it (Gil Tene, "How NOT to Measure Latency", calls leaving that out coordinated omission).
func (l *loop) openWindow(rate float64, ramp, d time.Duration) (result, error) {
	begin := time.Now().Add(ramp)
	end := begin.Add(d)
	due := make(chan time.Time, 1<<16)
	done := make(chan struct{})
	go func() {
		defer close(due)
		interval := time.Duration(float64(time.Second) / rate)
		next := time.Now()
		for {
			for now := time.Now(); !next.After(now); next = next.Add(interval) {
				select {
				case due <- next:
				case <-done:
					return
				}
			}
			select {
			case <-done:
				return
			case <-time.After(time.Until(next)):
			}
		}
	}()
	// The end of the schedule is the end of the window: what was due by then is still answered and counted as late.
	time.AfterFunc(ramp+d, func() { close(done) })
	work := func() ([]time.Duration, error) { return l.workWhenDue(due, begin, end) }
	return l.measure(openWorkers, work, ramp, d)
}

// workWhenDue counts what was due from begin to end, also when it was sent later.
func (l *loop) workWhenDue(due <-chan time.Time, begin, end time.Time) ([]time.Duration, error) {
	var latencies []time.Duration
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	for at := range due {
		l.fill(request)
		if err := l.exchange(request, response); err != nil {
			return nil, err
		}
		l.all.Add(1)
		if !at.Before(begin) && at.Before(end) {
			latencies = append(latencies, time.Since(at))
		}
	}
	return latencies, nil
}
