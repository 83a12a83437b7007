package balance

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Each member owns as many positions as its weight, in order.
func TestEveryPositionBelongsToItsMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.OneOf(weightsUpTo(9), rapid.Just([]int{4, 4, 4}), rapid.Just([]int{4, 4, 3}), rapid.Just([]int{3, 4, 3})).Draw(t, "weights")
		s := newShares(membersOf(weights...))
		position, even := uint64(0), uint64(weights[0])
		for i, weight := range weights {
			require.Equal(t, uint64(weight), s.weight(i))
			for range weight {
				require.Equal(t, i, s.at(position), "position %d", position)
				position++
			}
			if weight != weights[0] {
				even = 0
			}
		}
		require.Equal(t, position, s.total)
		require.Equal(t, even, s.even)
	})
}

// What the columns of the table hold together is the share of each member; a draw could not tell it that exactly.
func TestTheAliasTableHoldsTheShares(t *testing.T) {
	some := []*rapid.Generator[[]int]{weightsUpTo(5), weightsUpTo(10_000), weightsUpTo(MaxTotalWeight / 12)}
	for _, weights := range [][]int{{1, 2, 3}, {2, 1, 3}, {3, 2, 1}, {2, 2, 1, 3}, {7}, {1, 1}, {1, MaxTotalWeight - 1}, {5, 1, 1}} {
		some = append(some, rapid.Just(weights))
	}
	for _, generator := range some {
		rapid.Check(t, func(t *rapid.T) {
			weights := generator.Draw(t, "weights")
			total := 0
			for _, weight := range weights {
				total += weight
			}
			shares := make([]float64, len(weights))
			for column, cell := range newAliasTable(membersOf(weights...), uint64(total)) {
				own := float64(cell.share) / (1 << 32)
				shares[column] += own / float64(len(weights))
				shares[cell.other] += (1 - own) / float64(len(weights))
			}
			for i, weight := range weights {
				require.InDelta(t, float64(weight)/float64(total), shares[i], 1e-8, "member %d of %v", i, weights)
			}
		})
	}
}

// The other one is drawn in proportion too, also when the one that is left out has nearly all of the weight.
func TestTheOtherOneIsDrawnByWeight(t *testing.T) {
	tests := []struct {
		weights []int
		than    int
	}{
		{[]int{1_000_000, 1, 3}, 0},
		{[]int{1, 1_000_000, 3}, 1},
		{[]int{1, 3, 1_000_000}, 2},
		{[]int{1, 3, 1_000_000, 2, 4}, 2},
		{[]int{1, 1, 1}, 0},
		{[]int{1, 1, 1}, 2},
		{[]int{5, 1, 2}, 1},
	}
	for _, test := range tests {
		s := newShares(membersOf(test.weights...))
		counts := make([]int, len(test.weights))
		for range 5000 {
			counts[s.drawOther(test.than)]++
		}
		require.Zero(t, counts[test.than], "%+v", test)
		var weights, others []int
		for i, weight := range test.weights {
			if i != test.than {
				weights, others = append(weights, weight), append(others, counts[i])
			}
		}
		requireShares(t, weights, others)
	}
	for _, weights := range [][]int{{1, 1}, {1, 1_000_000}, {1_000_000, 1}} {
		s := newShares(membersOf(weights...))
		for range 1000 {
			require.Equal(t, 1, s.drawOther(0), "%v", weights)
			require.Equal(t, 0, s.drawOther(1), "%v", weights)
		}
	}
	alone := newShares(membersOf(7))
	require.Equal(t, -1, alone.drawOther(0))
}

func TestWhatIsTriedOrSkippedIsNotDrawn(t *testing.T) {
	s := newShares(membersOf(1, 50, 3, 6))
	for skip := -1; skip < 4; skip++ {
		tried := []bool{false, true, false, false}
		counts := make([]int, 4)
		for range 5000 {
			counts[s.drawUntried(tried, skip)]++
		}
		var weights, drawn []int
		for i, weight := range []int{1, 50, 3, 6} {
			if i == 1 || i == skip {
				require.Zero(t, counts[i], "skip %d", skip)
				continue
			}
			weights, drawn = append(weights, weight), append(drawn, counts[i])
		}
		requireShares(t, weights, drawn)
	}
	require.Equal(t, -1, s.drawUntried([]bool{true, true, false, true}, 2), "the only one is skipped")
	require.Equal(t, 2, s.drawUntried([]bool{true, true, false, true}, 1), "it was tried as well")
	require.Equal(t, -1, s.drawUntried([]bool{true, true, true, true}, -1))
}

func TestEuclidReturnsTheDivisorAndTheSumOfTheQuotients(t *testing.T) {
	tests := []struct{ a, b, divisor, quotients uint64 }{
		{0, 0, 0, 0},
		{7, 0, 7, 0},
		{0, 7, 7, 0},
		{7, 7, 7, 1},
		{7, 1, 1, 7},
		{12, 8, 4, 3},    // 1, 2
		{8, 12, 4, 3},    // 0, 1, 2
		{8, 5, 1, 5},     // 1, 1, 1, 2
		{43, 30, 1, 10},  // 1, 2, 3, 4
		{100, 30, 10, 6}, // 3, 3
	}
	for _, test := range tests {
		divisor, quotients := euclid(test.a, test.b)
		require.Equal(t, test.divisor, divisor, "%+v", test)
		require.Equal(t, test.quotients, quotients, "%+v", test)
	}
}

// The stride is the best of the 64 from the golden section on.
func TestNoStrideNearTheGoldenSectionIsBetter(t *testing.T) {
	totals := []uint64{2, 3, 10, 63, 64, 100, 1 << 20, 1_000_003, MaxTotalWeight}
	for total := uint64(maxSchedule); total < maxSchedule+500; total++ {
		totals = append(totals, total)
	}
	for _, total := range totals {
		stride := goldenStride(total)
		divisor, quotients := euclid(total, stride)
		require.Equal(t, uint64(1), divisor, "total %d", total)
		golden := uint64(math.Round(float64(total) * 2 / (1 + math.Sqrt(5))))
		for other := golden; other < min(golden+64, total); other++ {
			if divisor, theirs := euclid(total, other); divisor == 1 {
				require.LessOrEqual(t, quotients, theirs, "total %d, stride %d, other %d", total, stride, other)
			}
		}
		if total > 100 {
			require.InDelta(t, golden, stride, 64, "total %d", total)
		}
	}
}
