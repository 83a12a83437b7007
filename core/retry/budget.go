package retry

import "sync/atomic"

// Budget bounds the retries under way: at most max(Min, Ratio * requests in flight).
type Budget struct {
	Min   int
	Ratio float64

	active  atomic.Int64
	retries atomic.Int64
}

// Begin counts a request; End ends it.
func (b *Budget) Begin() { b.active.Add(1) }

// End ends what Begin began.
func (b *Budget) End() { b.active.Add(-1) }

// TryRetry takes one retry, if there is one left; EndRetry gives it back.
func (b *Budget) TryRetry() bool {
	for {
		taken := b.retries.Load()
		if taken >= b.limit() {
			return false
		}
		if b.retries.CompareAndSwap(taken, taken+1) {
			return true
		}
	}
}

// Retries is how many are under way.
func (b *Budget) Retries() int { return int(b.retries.Load()) }

// EndRetry gives back what TryRetry took.
func (b *Budget) EndRetry() { b.retries.Add(-1) }

func (b *Budget) limit() int64 {
	return max(int64(b.Min), int64(b.Ratio*float64(b.active.Load())))
}
