package balance

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
)

// Member is one choice of a snapshot.
type Member struct {
	// Key identifies the member to consistent_hash, which needs it to be unique. The same key means the same requests
	// in every process, so it should be what an operator wrote (a URL) and not where the member stands in a list.
	Key string

	// Weight is the member's share relative to the others of the snapshot; all are in one unit. It is above 0, and the
	// sum of a snapshot is at most MaxTotalWeight. A member that should get nothing is left out of the snapshot.
	Weight int

	// Active counts the requests in flight, without the one that is picked for. The caller keeps it, over all snapshots.
	// Only least_request and consistent_hash read it, for the others it may be nil.
	Active *atomic.Int64
}

// MaxTotalWeight is the largest sum of the weights of a snapshot (Envoy has the same limit for a cluster). It leaves
// room for 400,000 members of weight 100 in the unit of Ramp, and lets products of two weights fit into 64 bits.
const MaxTotalWeight = math.MaxUint32

// Picker chooses among the members of the snapshot it was built for. Both methods never block and never allocate, and
// are safe for concurrent use.
type Picker interface {
	// Pick returns the index of a member. hash is the caller's key, see HashKey; only consistent_hash looks at it.
	Pick(hash uint64) int

	// Next returns the index of a member that is not marked in tried, for a request that those marked could not serve,
	// or -1 when all are marked. hash is that of Pick. tried has one entry for each member and is only read.
	Next(hash uint64, tried []bool) int
}

// strategies is the closed table of what a pool can be configured with. Members are checked before build is called.
var strategies = []struct {
	name  string
	build func(members []Member, flight *atomic.Int64) (Picker, error)
}{
	{"round_robin", alone(newRoundRobin)},
	{"random", alone(newRandom)},
	{"weighted", alone(newWeighted)},
	{"single", alone(newFirst)},
	{"least_request", alone(newLeastRequest)},
	{"consistent_hash", newConsistentHash},
	{"first", alone(newFirst)},
}

// alone is for strategies that do not ask how many requests are in flight at all members together.
func alone(build func([]Member) (Picker, error)) func([]Member, *atomic.Int64) (Picker, error) {
	return func(members []Member, _ *atomic.Int64) (Picker, error) { return build(members) }
}

// Names returns the names of all strategies, the default first.
func Names() []string {
	names := make([]string, len(strategies))
	for i, strategy := range strategies {
		names[i] = strategy.name
	}
	return names
}

// New builds the picker of a strategy for a snapshot of members. It fails for an unknown name, for no members, for a
// weight or a sum of weights out of range, and for a member without the Active or the unique Key its strategy needs.
//
// flight counts the requests in flight at all members, those that are not in the snapshot included; nil: their counters are
// added up for each pick that needs the sum.
func New(strategy string, members []Member, flight *atomic.Int64) (Picker, error) {
	for _, known := range strategies {
		if known.name != strategy {
			continue
		}
		if err := check(members); err != nil {
			return nil, err
		}
		return known.build(members, flight)
	}
	return nil, fmt.Errorf("balance: unknown strategy %q, known are %s", strategy, strings.Join(Names(), ", "))
}

func check(members []Member) error {
	if len(members) == 0 {
		return errors.New("balance: a snapshot needs at least one member")
	}
	total := uint64(0)
	for i, member := range members {
		if member.Weight <= 0 || uint64(member.Weight) > MaxTotalWeight {
			return fmt.Errorf("balance: members[%d] has weight %d, it must be 1 to %d", i, member.Weight, uint64(MaxTotalWeight))
		}
		total += uint64(member.Weight)
	}
	if total > MaxTotalWeight {
		return fmt.Errorf("balance: the weights sum up to %d, at most %d are possible", total, uint64(MaxTotalWeight))
	}
	return nil
}

// actives returns the counters of the members, which must all have one.
func actives(members []Member) ([]*atomic.Int64, error) {
	counters := make([]*atomic.Int64, len(members))
	for i, member := range members {
		if member.Active == nil {
			return nil, fmt.Errorf("balance: members[%d] has no counter of its active requests", i)
		}
		counters[i] = member.Active
	}
	return counters, nil
}
