package balance

import "sync/atomic"

// leastRequest draws two members by weight and takes the one with fewer requests in flight for its weight. Two choices
// come close to the least loaded of all at the cost of a draw (Mitzenmacher, "The Power of Two Choices in Randomized
// Load Balancing", 2001), and concurrent requests do not all run to the same member.
type leastRequest struct {
	shares shares
	active []*atomic.Int64
}

func newLeastRequest(members []Member) (Picker, error) {
	active, err := actives(members)
	if err != nil {
		return nil, err
	}
	return &leastRequest{shares: newShares(members), active: active}, nil
}

func (p *leastRequest) Pick(uint64) int {
	one := p.shares.draw()
	// An idle member has nobody to yield to. Were it compared too, a light one (1/10) would lose against every idle heavy
	// one (1/100), and a member in slow start would get no request at all on a quiet pool (envoyproxy/envoy#19437).
	if p.active[one].Load() <= 0 {
		return one
	}
	return p.lighter(one, p.shares.drawOther(one))
}

func (p *leastRequest) Next(_ uint64, tried []bool) int {
	one := p.shares.drawUntried(tried, -1)
	if one < 0 || p.active[one].Load() <= 0 {
		return one
	}
	return p.lighter(one, p.shares.drawUntried(tried, one))
}

// lighter returns the one of two members that would have the smaller (active + 1) / weight; other may be -1.
func (p *leastRequest) lighter(one, other int) int {
	if other < 0 {
		return one
	}
	// a/v < b/w without the division. The products fit: a weight is below 2^32, and so many requests are never in flight.
	a, v := p.active[other].Load()+1, int64(p.shares.weight(other))
	b, w := p.active[one].Load()+1, int64(p.shares.weight(one))
	if a*w < b*v {
		return other
	}
	return one
}
