package balance

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// weighted takes the members in turn, each as often as its weight says, and spread out: with the weights 5, 1, 1 the
// turns are a a b a c a a and not a a a a a b c. Any window of total picks in a row, where total is the sum of the
// weights divided by their greatest common divisor, holds each member exactly as often as its weight says. So do any
// k*total picks of concurrent goroutines.
//
// The order repeats after total picks, so it is computed once and a pick is one atomic addition. nginx computes it pick
// by pick under a lock.
type weighted struct {
	turn     atomic.Uint64
	schedule []int32 // the member of each turn, if total is at most maxSchedule
	shares   shares
	stride   uint64 // otherwise: how far a turn goes on in the ranges of shares
}

// maxSchedule bounds the memory (16 KB) and the time (members * turns) that a schedule takes to build. Slow start makes
// totals large: 10 members of weight 5 in hundredths reach 5000 when one of them stands at an odd per cent.
const maxSchedule = 4096

func newWeighted(members []Member) (Picker, error) {
	reduced := reduce(members)
	p := &weighted{shares: newShares(reduced)}
	if p.shares.total <= maxSchedule {
		p.schedule = smooth(reduced, p.shares.total)
	} else {
		p.stride = goldenStride(p.shares.total)
	}
	// As in round_robin, not every snapshot begins with the heaviest member.
	p.turn.Store(rand.Uint64N(p.shares.total))
	return p, nil
}

func (p *weighted) Pick(uint64) int {
	turn := (p.turn.Add(1) - 1) % p.shares.total
	if p.schedule != nil {
		return int(p.schedule[turn])
	}
	return p.shares.at(turn * p.stride % p.shares.total)
}

func (p *weighted) Next(_ uint64, tried []bool) int {
	return p.shares.drawUntried(tried, -1)
}

// reduce divides the weights by their greatest common divisor: 100, 200 has the turns of 1, 2 and their short period.
func reduce(members []Member) []Member {
	divisor := uint64(0)
	for _, member := range members {
		divisor, _ = euclid(uint64(member.Weight), divisor)
	}
	reduced := make([]Member, len(members))
	for i, member := range members {
		reduced[i].Weight = member.Weight / int(divisor)
	}
	return reduced
}

// smooth computes one period of nginx's smooth weighted round robin (ngx_http_upstream_round_robin.c): in each turn
// every member gains its weight, and the one that has most serves and pays the total.
func smooth(members []Member, total uint64) []int32 {
	schedule := make([]int32, total)
	gained := make([]int64, len(members))
	for turn := range schedule {
		best := 0
		for i, member := range members {
			gained[i] += int64(member.Weight)
			if gained[i] > gained[best] {
				best = i
			}
		}
		gained[best] -= int64(total)
		schedule[turn] = int32(best)
	}
	return schedule
}

// goldenStride returns a stride that visits every position below total once in total turns, because it shares no
// divisor with total, and spreads any number of turns in a row over the range, because stride/total is near the golden
// section. The shares are as exact as those of the schedule, only the order is a little less smooth.
//
// How evenly such a sequence is spread is bounded by the sum of the partial quotients of the fraction (Kuipers and
// Niederreiter, "Uniform Distribution of Sequences", 1974, chapter 2.3). Those of the golden section are all 1, but the
// fraction next to it may have a large one at its end; so the best of some neighbours is taken.
func goldenStride(total uint64) uint64 {
	const neighbours = 64
	golden := uint64(math.Round(float64(total) * (math.Phi - 1)))
	best, least := uint64(1), total
	for stride := golden; stride < min(golden+neighbours, total); stride++ {
		if divisor, quotients := euclid(total, stride); divisor == 1 && quotients < least {
			best, least = stride, quotients
		}
	}
	return best
}

// euclid returns the greatest common divisor of a and b and the sum of the partial quotients of a/b.
func euclid(a, b uint64) (divisor, quotients uint64) {
	for b != 0 {
		quotients += a / b
		a, b = b, a%b
	}
	return a, quotients
}
