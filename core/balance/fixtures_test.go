package balance

import (
	"fmt"
	"math"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// membersOf returns members with these weights, keys of their own and idle counters.
func membersOf(weights ...int) []Member {
	members := make([]Member, len(weights))
	for i, weight := range weights {
		members[i] = Member{Key: fmt.Sprintf("http://upstream-%d:8080", i), Weight: weight, Active: new(atomic.Int64)}
	}
	return members
}

// equalMembers returns n members of one weight.
func equalMembers(n int) []Member {
	weights := make([]int, n)
	for i := range weights {
		weights[i] = 1
	}
	return membersOf(weights...)
}

func build(t require.TestingT, strategy string, members []Member) Picker {
	picker, err := New(strategy, members, nil)
	require.NoError(t, err)
	return picker
}

// keyOf is the hash of the kth of many clients.
func keyOf(k int) uint64 {
	return HashKey(fmt.Appendf(nil, "client-%d", k))
}

// picks counts how often each of n members is picked by the first of many clients.
func picks(picker Picker, n, times int) []int {
	counts := make([]int, n)
	for k := range times {
		counts[picker.Pick(keyOf(k))]++
	}
	return counts
}

// requireShares fails when the counts cannot come from these weights: Pearson's chi-squared is above what a fair picker
// exceeds once in 10^12 runs. The bound is the Wilson-Hilferty approximation of that quantile.
func requireShares(t *testing.T, weights, counts []int) {
	t.Helper()
	total, times := 0, 0
	for i, weight := range weights {
		total += weight
		times += counts[i]
	}
	chi := 0.0
	for i, weight := range weights {
		expected := float64(times) * float64(weight) / float64(total)
		require.Greater(t, expected, 20.0, "too few picks to judge member %d", i)
		chi += (float64(counts[i]) - expected) * (float64(counts[i]) - expected) / expected
	}
	const sigmas = 7.03
	freedom := float64(len(weights) - 1)
	root := 1 - 2/(9*freedom) + sigmas*math.Sqrt(2/(9*freedom))
	require.Less(t, chi, freedom*root*root*root, "%v for the weights %v", counts, weights)
}

// weightsUpTo draws the weights of 1 to 12 members.
func weightsUpTo(most int) *rapid.Generator[[]int] {
	return rapid.SliceOfN(rapid.IntRange(1, most), 1, 12)
}
