package balance

import (
	"fmt"
	"math"
	"sync/atomic"
)

// consistentHash sends equal hashes to the same member. Each member has a score for the hash, which depends on these
// two alone, and the highest score wins (rendezvous hashing: Thaler and Ravishankar, "Using Name-Based Mappings to
// Increase Hit Rates", 1998). So a member that leaves moves only its own hashes, evenly to all others, and one that
// comes takes only its share. There is no ring with some hundred points for each member, which shares less evenly.
//
// Hashes are taken together in slots, and the winner of a slot is remembered: a walk over all members is needed only for the
// first request of a slot, and when its winner has no room or was tried.
//
// A member may be at most 25 % above its share of the requests in flight. Past that its hashes go to the member with
// the next score until it has room (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016).
type consistentHash struct {
	winners []atomic.Int32 // by slot of the hash: who has the highest score, plus one; 0 while nobody has asked
	seeds   []uint64
	weights []uint64
	total   uint64 // of weights
	active  []*atomic.Int64
	flight  *atomic.Int64 // requests in flight at all members; nil: their sum is taken
	even    bool          // all weights are equal
}

// slots is how many hashes are told apart. The winner of a slot is found once, in a walk over all members; later picks only
// look it up. With 1,000 members each has some 65 slots, and so its share within an eighth or so.
const slots = 1 << 16

// A member may carry 5/4 of its fair share. HAProxy recommends 1.25 to 2 for its hash-balance-factor; the lower end
// moves more hashes and keeps the most loaded member faster.
const boundNumerator, boundDenominator = 5, 4

func newConsistentHash(members []Member, flight *atomic.Int64) (Picker, error) {
	active, err := actives(members)
	if err != nil {
		return nil, err
	}
	shares := newShares(members)
	p := &consistentHash{
		winners: make([]atomic.Int32, slots), active: active, flight: flight, even: shares.even != 0, total: shares.total,
	}
	seen := make(map[string]int, len(members))
	for i, member := range members {
		if other, found := seen[member.Key]; found {
			return nil, fmt.Errorf("balance: members[%d] has the key %q of members[%d]", i, member.Key, other)
		}
		seen[member.Key] = i
		p.seeds = append(p.seeds, HashKey([]byte(member.Key)))
		p.weights = append(p.weights, uint64(member.Weight))
	}
	return p, nil
}

func (p *consistentHash) Pick(hash uint64) int {
	return p.choose(hash, nil)
}

func (p *consistentHash) Next(hash uint64, tried []bool) int {
	return p.choose(hash, tried)
}

// choose returns the best member that has room, or the best of all if none has: a moment later the counters say
// something else, and the tried ones may be those with room.
func (p *consistentHash) choose(hash uint64, tried []bool) int {
	// The caller's hash may be anything, numbers in a row too.
	slot := mix(hash) / (math.MaxUint64/slots + 1)
	hash = mix(slot)
	best := p.winner(slot, hash, tried)
	// An idle member always has room. That spares a quiet pool the sum over all counters.
	if best < 0 || p.inFlight(best) == 0 {
		return best
	}
	requests := uint64(1) // the one that is picked for
	if p.flight != nil {
		requests += uint64(max(0, p.flight.Load()))
	} else {
		for i := range p.active {
			requests += p.inFlight(i)
		}
	}
	if p.hasRoom(best, requests) {
		return best
	}
	if roomy := p.best(hash, tried, requests); roomy >= 0 {
		return roomy
	}
	return best
}

// winner is the member with the highest score for a slot, whatever its load; -1 if all are tried.
func (p *consistentHash) winner(slot, hash uint64, tried []bool) int {
	known := int(p.winners[slot].Load()) - 1
	if known < 0 {
		known = p.best(hash, nil, unbounded)
		p.winners[slot].Store(int32(known + 1))
	}
	if tried != nil && tried[known] {
		return p.best(hash, tried, unbounded)
	}
	return known
}

func (p *consistentHash) inFlight(i int) uint64 {
	return uint64(max(0, p.active[i].Load()))
}

// unbounded stands for so many requests in flight that every member has room.
const unbounded = math.MaxUint64

// hasRoom reports whether a member may take one of so many requests: afterwards it has at most its bound, rounded up.
// In whole numbers, since a rounded fraction can admit one more. They fit for 2^29 requests in flight.
func (p *consistentHash) hasRoom(i int, requests uint64) bool {
	return requests == unbounded ||
		p.inFlight(i)*p.total*boundDenominator < requests*p.weights[i]*boundNumerator
}

// best returns the member with the highest score among those that are not tried and have room, or -1.
func (p *consistentHash) best(hash uint64, tried []bool, requests uint64) int {
	best, most, least := -1, uint64(0), math.Inf(1)
	for i, seed := range p.seeds {
		if tried != nil && tried[i] || !p.hasRoom(i, requests) {
			continue
		}
		score := mix(hash ^ seed)
		if p.even {
			if best < 0 || score > most {
				best, most = i, score
			}
			continue
		}
		// Weighted rendezvous (Schindelhauer and Schomaker, 2005): with u uniform in (0, 1), -ln(u)/weight is the time of
		// the first event at that rate, and each member is first with a probability in proportion to its weight. A higher
		// score is an earlier event, so equal weights choose the same member on the shorter way above.
		u, weight := (float64(score>>11)+0.5)*0x1p-53, float64(p.weights[i])
		// 1-u is never above -ln(u): most members are later than the earliest so far by that alone, without a logarithm.
		if 1-u > least*weight {
			continue
		}
		if event := -math.Log(u) / weight; best < 0 || event < least {
			best, least = i, event
		}
	}
	return best
}
