package balance

import (
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The example of nginx's commit message for the algorithm, and orders worked out by hand.
func TestTheOrderIsThatOfNginx(t *testing.T) {
	tests := []struct {
		weights []int
		order   []int32
	}{
		{[]int{5, 1, 1}, []int32{0, 0, 1, 0, 2, 0, 0}},
		{[]int{1, 1, 1}, []int32{0, 1, 2}},
		{[]int{4, 2, 1}, []int32{0, 1, 0, 2, 0, 1, 0}},
		{[]int{200, 100}, []int32{0, 1, 0}},
		{[]int{7}, []int32{0}},
	}
	for _, test := range tests {
		picker := build(t, "weighted", membersOf(test.weights...)).(*weighted)
		assert.Equal(t, test.order, picker.schedule, "%v", test.weights)
	}
}

// requireExactWindows checks that every window of total picks in a row holds each member as often as its weight says.
func requireExactWindows(t require.TestingT, picker Picker, reduced []Member, total int) {
	last := make([]int, 2*total+total/2)
	counts := make([]int, len(reduced))
	for n := range last {
		last[n] = picker.Pick(0)
		counts[last[n]]++
		if n >= total {
			counts[last[n-total]]--
		}
		if n < total-1 {
			continue
		}
		for i, member := range reduced {
			if counts[i] != member.Weight {
				require.Equal(t, member.Weight, counts[i], "member %d in the window that ends with pick %d", i, n)
			}
		}
	}
}

func TestEveryWindowHoldsTheExactShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := membersOf(weightsUpTo(40).Draw(t, "weights")...)
		picker := build(t, "weighted", members).(*weighted)
		requireExactWindows(t, picker, reduce(members), int(picker.shares.total))
	})
}

// The same law for the way without a schedule, with totals small enough to be looked at often.
func TestEveryWindowOfStridesHoldsTheExactShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reduced := reduce(membersOf(weightsUpTo(60).Draw(t, "weights")...))
		picker := &weighted{shares: newShares(reduced)}
		picker.stride = goldenStride(picker.shares.total)
		picker.turn.Store(rapid.Uint64Range(0, picker.shares.total-1).Draw(t, "turn"))
		requireExactWindows(t, picker, reduced, int(picker.shares.total))
	})
}

func TestLargeTotalsHoldTheExactSharesToo(t *testing.T) {
	members := membersOf(9973, 4999, 1009)
	picker := build(t, "weighted", members).(*weighted)
	require.Nil(t, picker.schedule)
	requireExactWindows(t, picker, members, 9973+4999+1009)
}

// A schedule of 4096 turns is the longest; beyond it the memory is not worth it.
func TestSchedulesAreBounded(t *testing.T) {
	longest := build(t, "weighted", membersOf(4095, 1)).(*weighted)
	require.Len(t, longest.schedule, 4096)
	require.Zero(t, longest.stride)
	longer := build(t, "weighted", membersOf(4096, 1)).(*weighted)
	require.Nil(t, longer.schedule)
	require.NotZero(t, longer.stride)
}

// Smooth means that no member is ever far ahead of its share or behind it. Without a schedule it was 5.2 at most in
// 3,000 trials; a burst of a whole weight would be thousands.
func TestTurnsAreSpread(t *testing.T) {
	lag := func(picker *weighted, n int) float64 {
		counts, most := make([]float64, n), 0.0
		for turn := range min(picker.shares.total, 20_000) {
			counts[picker.Pick(0)]++
			for i := range counts {
				due := float64(turn+1) * float64(picker.shares.weight(i)) / float64(picker.shares.total)
				most = max(most, math.Abs(counts[i]-due))
			}
		}
		return most
	}
	rapid.Check(t, func(t *rapid.T) {
		weights := weightsUpTo(10_000).Draw(t, "weights")
		picker := build(t, "weighted", membersOf(weights...)).(*weighted)
		picker.turn.Store(rapid.Uint64Range(0, picker.shares.total-1).Draw(t, "turn"))
		limit := float64(len(weights))
		if picker.schedule == nil {
			limit = 12
		}
		require.LessOrEqual(t, lag(picker, len(weights)), limit)
	})
}

// Row B14: the total over k periods is exact for every interleaving of the callers.
func TestConcurrentTotalsAreExact(t *testing.T) {
	tests := []struct {
		strategy string
		weights  []int
	}{
		{"weighted", []int{5, 1, 1}},
		{"weighted", []int{3, 2}},
		{"weighted", []int{9973, 4999, 1009}},
		{"round_robin", []int{1000, 1000, 1000}},
	}
	for _, test := range tests {
		picker := build(t, test.strategy, membersOf(test.weights...))
		total := 0
		for _, weight := range test.weights {
			total += weight
		}
		const callers = 8 // each makes total picks, so that together they make 8 periods
		counts := make([][]int, callers)
		var wg sync.WaitGroup
		for g := range callers {
			wg.Go(func() { counts[g] = picks(picker, len(test.weights), total) })
		}
		wg.Wait()
		for i, weight := range test.weights {
			sum := 0
			for g := range callers {
				sum += counts[g][i]
			}
			require.Equal(t, callers*weight, sum, "member %d of %v, %s", i, test.weights, test.strategy)
		}
	}
}

func TestTurnsAreNotSpentOnReplacements(t *testing.T) {
	for _, strategy := range []string{"round_robin", "weighted"} {
		picker := build(t, strategy, equalMembers(3))
		counts := make([]int, 3)
		for range 300 {
			counts[picker.Pick(0)]++
			picker.Next(0, []bool{true, false, false})
		}
		require.Equal(t, []int{100, 100, 100}, counts, strategy)
	}
}

func TestRoundRobinIsExactInEveryWindow(t *testing.T) {
	for n := 1; n <= 12; n++ {
		members := equalMembers(n)
		requireExactWindows(t, build(t, "round_robin", members), members, n)
	}
}

func TestReplacementsFollowTheWeights(t *testing.T) {
	for _, strategy := range []string{"weighted", "least_request"} {
		picker := build(t, strategy, membersOf(1, 50, 3, 6))
		counts := make([]int, 4)
		for range 20_000 {
			counts[picker.Next(0, []bool{false, true, false, false})]++
		}
		require.Zero(t, counts[1])
		requireShares(t, []int{1, 3, 6}, []int{counts[0], counts[2], counts[3]})
	}
}
