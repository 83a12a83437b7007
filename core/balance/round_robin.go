package balance

import (
	"math/rand/v2"
	"sync/atomic"
)

// roundRobin takes the members in turn: any n picks in a row, by whatever goroutines, hold each of n members once.
type roundRobin struct {
	turn    atomic.Uint64
	members uint64
}

// newRoundRobin begins at a random member. Many short snapshots (a target that flaps, a gateway of many processes that
// start together) would otherwise all send their first request to member 0.
func newRoundRobin(members []Member) (Picker, error) {
	p := &roundRobin{members: uint64(len(members))}
	p.turn.Store(rand.Uint64N(p.members))
	return p, nil
}

func (p *roundRobin) Pick(uint64) int {
	return int((p.turn.Add(1) - 1) % p.members)
}

func (p *roundRobin) Next(_ uint64, tried []bool) int {
	return anyUntried(tried)
}
