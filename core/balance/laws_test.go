package balance

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// promise is what a strategy promises beyond the laws that hold for all.
type promise struct {
	spreads       bool // every member is picked, and all equally often if they have the same weight and are idle
	weighs        bool // idle members are picked as often as their weights say
	deterministic bool // a picker that is built for the same members picks the same for the same hashes
}

var promises = map[string]promise{
	"round_robin":     {spreads: true},
	"random":          {spreads: true},
	"weighted":        {spreads: true, weighs: true},
	"single":          {deterministic: true},
	"least_request":   {spreads: true, weighs: true},
	"consistent_hash": {spreads: true, weighs: true, deterministic: true},
	"first":           {deterministic: true},
}

// forEach runs a law for every strategy of the table.
func forEach(t *testing.T, law func(t *testing.T, strategy string, promised promise)) {
	for _, name := range Names() {
		promised, found := promises[name]
		require.True(t, found, "%s has no row in promises", name)
		t.Run(name, func(t *testing.T) { law(t, name, promised) })
	}
}

func TestTheTableHoldsTheDocumentedNames(t *testing.T) {
	documented := []string{"round_robin", "random", "weighted", "single", "least_request", "consistent_hash", "first"}
	require.Equal(t, documented, Names())
	require.Len(t, promises, len(documented))
}

func TestIndicesAreInRange(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, _ promise) {
		for _, n := range []int{1, 2, 3, 10, 100} {
			members := equalMembers(n)
			picker := build(t, strategy, members)
			for k := range 20 * n {
				i := picker.Pick(keyOf(k))
				require.GreaterOrEqual(t, i, 0)
				require.Less(t, i, n)
				members[i].Active.Add(1)
			}
		}
	})
}

func TestNextReturnsOneThatIsNotTriedAndMinusOneWhenAllAre(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, _ promise) {
		for n := 1; n <= 6; n++ {
			weights := []int{4, 1, 7, 2, 300, 5}[:n]
			for _, load := range []int64{0, 1, 50} {
				members := membersOf(weights...)
				picker := build(t, strategy, members)
				// One is loaded far above its share, the others are equal.
				for _, member := range members {
					member.Active.Store(load)
				}
				members[0].Active.Add(20 * load)
				for set := range 1 << n {
					tried := make([]bool, n)
					for i := range tried {
						tried[i] = set>>i&1 == 1
					}
					given := slices.Clone(tried)
					for k := range 5 {
						i := picker.Next(keyOf(k), tried)
						if set == 1<<n-1 {
							require.Equal(t, -1, i)
							continue
						}
						require.GreaterOrEqual(t, i, 0)
						require.Less(t, i, n)
						require.False(t, tried[i], "%d of %v", i, tried)
					}
					require.Equal(t, given, tried, "tried is only read")
				}
			}
		}
	})
}

func TestARequestCanTryEveryMemberOnce(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, _ promise) {
		members := membersOf(1, 2, 3, 4, 5, 6, 7)
		picker := build(t, strategy, members)
		for k := range 100 {
			tried := make([]bool, len(members))
			tried[picker.Pick(keyOf(k))] = true
			for range len(members) - 1 {
				tried[picker.Next(keyOf(k), tried)] = true
			}
			require.NotContains(t, tried, false)
			require.Equal(t, -1, picker.Next(keyOf(k), tried))
		}
	})
}

func TestEveryMemberIsReached(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, promised promise) {
		if !promised.spreads {
			require.Equal(t, []int{100, 0, 0}, picks(build(t, strategy, equalMembers(3)), 3, 100))
			return
		}
		// Requests stay in flight: the strategies that read them must reach light members too.
		members := membersOf(1, 20, 1, 20)
		picker := build(t, strategy, members)
		counts := make([]int, len(members))
		for k := range 4200 {
			i := picker.Pick(keyOf(k))
			members[i].Active.Add(1)
			counts[i]++
		}
		require.NotContains(t, counts, 0)
	})
}

func TestEqualMembersGetEqualShares(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, promised promise) {
		if !promised.spreads {
			t.Skip("prefers the first")
		}
		sizes := []int{2, 3, 10, 100}
		if strategy == "consistent_hash" {
			sizes = sizes[:3] // of 65,536 slots: with 100 members their number shows (see the test of slots)
		}
		for _, n := range sizes {
			counts := picks(build(t, strategy, equalMembers(n)), n, 3000*n)
			weights := make([]int, n)
			for i := range weights {
				weights[i] = 1
			}
			requireShares(t, weights, counts)
		}
	})
}

func TestIdleMembersGetTheSharesOfTheirWeights(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, promised promise) {
		if !promised.weighs {
			t.Skip("does not promise it")
		}
		for _, weights := range [][]int{{1, 9}, {100, 100, 10}, {5, 1, 1}, {1, 2, 3, 4, 5, 6, 7, 8}, {9973, 4999, 1009}} {
			counts := picks(build(t, strategy, membersOf(weights...)), len(weights), 60_000)
			requireShares(t, weights, counts)
		}
	})
}

func TestReplacementsAreSharedByThoseThatAreLeft(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, promised promise) {
		if !promised.spreads {
			t.Skip("prefers the first")
		}
		picker := build(t, strategy, equalMembers(5))
		counts := make([]int, 5)
		tried := []bool{false, true, false, false, false}
		for k := range 20_000 {
			counts[picker.Next(keyOf(k), tried)]++
		}
		require.Zero(t, counts[1])
		requireShares(t, []int{1, 1, 1, 1}, slices.Delete(counts, 1, 2))
	})
}

func TestTheSameMembersGiveTheSamePicks(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, promised promise) {
		if !promised.deterministic {
			t.Skip("does not promise it")
		}
		one, other := build(t, strategy, membersOf(3, 1, 2, 5)), build(t, strategy, membersOf(3, 1, 2, 5))
		tried := []bool{true, false, true, false}
		for k := range 2000 {
			require.Equal(t, one.Pick(keyOf(k)), other.Pick(keyOf(k)))
			require.Equal(t, one.Next(keyOf(k), tried), other.Next(keyOf(k), tried))
		}
	})
}

func TestPickersDoNotAllocate(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, _ promise) {
		for _, weights := range [][]int{{1}, {1, 1, 1}, {3, 1, 2}, {9973, 4999, 1009}} {
			members := membersOf(weights...)
			picker := build(t, strategy, members)
			tried := make([]bool, len(members))
			hash := uint64(0)
			require.Zero(t, testing.AllocsPerRun(200, func() {
				hash++
				members[picker.Pick(hash)].Active.Add(1)
				members[picker.Next(hash, tried)].Active.Add(1)
			}))
		}
	})
}

// Run with the race detector. Requests come and go while others are picked for, as in a pool.
func TestPickersAreSafeForConcurrentUse(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, _ promise) {
		members := membersOf(3, 1, 2, 5)
		picker := build(t, strategy, members)
		var wg sync.WaitGroup
		var wrong atomic.Int64
		for g := range 8 {
			wg.Go(func() {
				tried := make([]bool, len(members))
				for k := range 500 {
					one := picker.Pick(keyOf(g*1000 + k))
					members[one].Active.Add(1)
					tried[one] = true
					next := picker.Next(keyOf(g*1000+k), tried)
					if next < 0 || next == one {
						wrong.Add(1)
					}
					tried[one] = false
					members[one].Active.Add(-1)
				}
			})
		}
		wg.Wait()
		require.Zero(t, wrong.Load())
	})
}

func TestASnapshotOutlivesTheSliceItWasBuiltFrom(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, _ promise) {
		members := membersOf(1, 2, 3)
		picker := build(t, strategy, members)
		clear(members)
		for k := range 100 {
			picker.Pick(keyOf(k))
			require.NotEqual(t, -1, picker.Next(keyOf(k), make([]bool, 3)))
		}
	})
}

func TestNewSnapshotsDoNotAllBeginWithTheSameMember(t *testing.T) {
	for _, strategy := range []string{"round_robin", "weighted"} {
		firsts := make([]int, 4)
		for range 4000 {
			firsts[build(t, strategy, equalMembers(4)).Pick(rand.Uint64())]++
		}
		requireShares(t, []int{1, 1, 1, 1}, firsts)
	}
}
