package balance

import "math/rand/v2"

// random takes any member. Unlike turns, it needs no agreement between many gateways before the same members.
type random struct {
	members int
}

func newRandom(members []Member) (Picker, error) {
	return random{members: len(members)}, nil
}

func (p random) Pick(uint64) int {
	return rand.IntN(p.members)
}

func (p random) Next(_ uint64, tried []bool) int {
	return anyUntried(tried)
}
