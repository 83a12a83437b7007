package balance

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestOfTwoMembersTheLessLoadedIsPicked(t *testing.T) {
	tests := []struct {
		name    string
		weights []int
		active  []int64
		counts  []int // of 1000 picks; nil means that both are picked
	}{
		{"fewer requests", []int{1, 1}, []int64{7, 3}, []int{0, 1000}},
		{"one is enough", []int{1, 1}, []int64{3, 4}, []int{1000, 0}},
		{"equal", []int{1, 1}, []int64{3, 3}, nil},
		{"fewer for its weight", []int{1, 10}, []int64{1, 9}, []int{0, 1000}},
		{"just fewer for its weight", []int{1, 10}, []int64{1, 18}, []int{0, 1000}},
		{"more for its weight", []int{1, 10}, []int64{1, 29}, []int{1000, 0}},
		{"just more for its weight", []int{1, 10}, []int64{1, 20}, []int{1000, 0}},
		{"equal for their weights", []int{1, 10}, []int64{1, 19}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			members := membersOf(test.weights...)
			for i, active := range test.active {
				members[i].Active.Store(active)
			}
			counts := picks(build(t, "least_request", members), 2, 1000)
			if test.counts == nil {
				require.NotContains(t, counts, 0)
				return
			}
			require.Equal(t, test.counts, counts)
		})
	}
}

// Two choices never take the most loaded of all while another is drawn, and drawn they always are.
func TestTheMostLoadedIsNeverPicked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := equalMembers(rapid.IntRange(2, 20).Draw(t, "members"))
		for _, member := range members {
			member.Active.Store(rapid.Int64Range(0, 50).Draw(t, "active"))
		}
		busiest := rapid.IntRange(0, len(members)-1).Draw(t, "busiest")
		members[busiest].Active.Store(51)
		picker := build(t, "least_request", members)
		for range 50 {
			require.NotEqual(t, busiest, picker.Pick(0))
			// Two are left for Next, the busiest and another.
			tried := make([]bool, len(members))
			for i := range tried {
				tried[i] = i != busiest && i != (busiest+1)%len(members)
			}
			require.Equal(t, (busiest+1)%len(members), picker.Next(0, tried))
		}
	})
}

// Row F18: a member that is ten times slower holds its requests ten times longer, and gets far fewer of them.
func TestASlowMemberGetsFewerRequests(t *testing.T) {
	members := equalMembers(4)
	picker := build(t, "least_request", members)
	counts := make([]int, len(members))
	type ending struct{ member, at int }
	var inFlight []ending
	// Eight requests arrive in each tick and take 2 ticks, or 20 at member 0.
	for tick := range 2000 {
		kept := inFlight[:0]
		for _, request := range inFlight {
			if request.at > tick {
				kept = append(kept, request)
				continue
			}
			members[request.member].Active.Add(-1)
		}
		inFlight = kept
		for range 8 {
			i := picker.Pick(0)
			took := 2
			if i == 0 {
				took = 20
			}
			counts[i]++
			members[i].Active.Add(1)
			inFlight = append(inFlight, ending{i, tick + took})
		}
	}
	require.Less(t, counts[0], 16_000/4/4, "a quarter of a fair share at most: %v", counts)
	require.Greater(t, counts[0], 0)
}

// Then the draw has decided, which is by weight.
func TestMembersThatAreEquallyLoadedForTheirWeightsGetTheSharesOfTheirWeights(t *testing.T) {
	members := membersOf(2, 1)
	members[0].Active.Store(3)
	members[1].Active.Store(1)
	picker := build(t, "least_request", members)
	requireShares(t, []int{2, 1}, picks(picker, 2, 10_000))
	counts := make([]int, 2)
	for range 10_000 {
		counts[picker.Next(0, []bool{false, false})]++
	}
	requireShares(t, []int{2, 1}, counts)
}

func TestReplacementsAreTheLessLoadedOfTwo(t *testing.T) {
	for _, busy := range []int{0, 1, 2} {
		members := equalMembers(3)
		for i := range members {
			members[i].Active.Store(1)
		}
		members[busy].Active.Store(2)
		picker := build(t, "least_request", members)
		for _, gone := range []int{(busy + 1) % 3, (busy + 2) % 3} {
			tried := make([]bool, 3)
			tried[gone] = true
			for range 100 {
				require.Equal(t, 3-busy-gone, picker.Next(0, tried))
			}
		}
	}
}

// envoyproxy/envoy#19437: with the weights of a slow start, a new member got nothing on a quiet pool.
func TestALightIdleMemberIsNotStarvedByHeavyOnes(t *testing.T) {
	members := membersOf(100, 100, 10)
	picker := build(t, "least_request", members)
	members[0].Active.Store(1)
	members[1].Active.Store(1)
	require.Greater(t, picks(picker, 3, 10_000)[2], 100)
	replacements := 0
	for range 10_000 {
		if picker.Next(0, []bool{false, true, false}) == 2 {
			replacements++
		}
	}
	require.Greater(t, replacements, 100)
}
