package breaker

import "time"

// buckets is how many parts a sliding window has: it forgets a tenth of itself at a time.
const buckets = 10

// window counts outcomes over the last buckets*width.
type window struct {
	width  time.Duration
	counts [buckets]struct{ failures, samples int }
	newest int64 // number of the bucket that counts now
	origin time.Time
}

func (w *window) add(now time.Time, failed bool) {
	if w.width <= 0 {
		return
	}
	bucket := &w.counts[w.advance(now)%buckets]
	bucket.samples++
	if failed {
		bucket.failures++
	}
}

func (w *window) count(now time.Time) (failures, samples int) {
	if w.width <= 0 {
		return 0, 0
	}
	w.advance(now)
	for _, bucket := range w.counts {
		failures += bucket.failures
		samples += bucket.samples
	}
	return failures, samples
}

// advance empties the buckets that have come round since the last call, and returns the number of the one for now.
func (w *window) advance(now time.Time) int64 {
	if w.origin.IsZero() {
		w.origin = now
	}
	number := int64(now.Sub(w.origin) / w.width)
	for n := max(w.newest+1, number-buckets+1); n <= number; n++ {
		w.counts[n%buckets] = struct{ failures, samples int }{}
	}
	w.newest = max(w.newest, number)
	return w.newest
}

func (w *window) clear() { *w = window{width: w.width} }
