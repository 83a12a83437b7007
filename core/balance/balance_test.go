package balance

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSnapshotsThatCannotWorkAreRefused(t *testing.T) {
	tests := []struct {
		name     string
		strategy string
		members  []Member
		because  string
	}{
		{"unknown strategy", "ip_hash", equalMembers(2), `unknown strategy "ip_hash", known are round_robin, random`},
		{"no strategy", "", equalMembers(2), `unknown strategy ""`},
		{"no members", "*", nil, "at least one member"},
		{"weight 0", "*", membersOf(1, 0), "members[1] has weight 0"},
		{"negative weight", "*", membersOf(-1), "members[0] has weight -1"},
		{"weight too large", "*", membersOf(1, MaxTotalWeight+1), "members[1] has weight 4294967296"},
		{"sum too large", "*", membersOf(MaxTotalWeight, 1), "sum up to 4294967296"},
		{"no counter", "least_request", []Member{{Key: "a", Weight: 1}}, "members[0] has no counter"},
		{"no counter", "consistent_hash", []Member{{Key: "a", Weight: 1}}, "members[0] has no counter"},
		{"same key", "consistent_hash", append(membersOf(1), membersOf(1)...), `members[1] has the key "http://upstream-0`},
	}
	for _, test := range tests {
		strategies := []string{test.strategy}
		if test.strategy == "*" {
			strategies = Names()
		}
		for _, strategy := range strategies {
			t.Run(test.name+"/"+strategy, func(t *testing.T) {
				picker, err := New(strategy, test.members, nil)
				assert.Nil(t, picker)
				require.ErrorContains(t, err, test.because)
				require.True(t, strings.HasPrefix(err.Error(), "balance: "))
			})
		}
	}
}

func TestTheLargestWeightsWork(t *testing.T) {
	forEach(t, func(t *testing.T, strategy string, _ promise) {
		for _, weights := range [][]int{{MaxTotalWeight}, {MaxTotalWeight - 1, 1}, {1 << 31, 1<<31 - 1}} {
			members := membersOf(weights...)
			picker := build(t, strategy, members)
			for k := range 1000 {
				i := picker.Pick(keyOf(k))
				require.GreaterOrEqual(t, i, 0)
				require.Less(t, i, len(weights))
				members[i].Active.Add(1)
			}
		}
	})
}
