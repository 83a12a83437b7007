package balance

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRampPoints(t *testing.T) {
	const full = 100 * time.Second
	tests := []struct {
		weight int
		since  time.Duration
		full   time.Duration
		ramped int
	}{
		{1, 0, full, 10},
		{1, -time.Hour, full, 10},
		{1, 10 * time.Second, full, 10},
		{1, 29 * time.Second, full, 29},
		{1, 99 * time.Second, full, 99},
		{1, 99*time.Second + 999*time.Millisecond, full, 99},
		{1, full, full, 100},
		{1, time.Hour, full, 100},
		{7, 50 * time.Second, full, 350},
		{7, 0, full, 70},
		{3, 0, 0, 300},
		{3, 0, -1, 300},
		{3, -1, 0, 300},
		{3, -2, -1, 300},
		{361, 1000005000013, 1000005000013, 36100}, // in floating point the quotient is just below
		{3, math.MinInt64, math.MaxInt64, 30},
		{MaxTotalWeight / RampUnit, math.MaxInt64 / 2, math.MaxInt64 - 1, MaxTotalWeight / RampUnit * RampUnit / 2},
	}
	for _, test := range tests {
		require.Equal(t, test.ramped, Ramp(test.weight, test.since, test.full), "%+v", test)
	}
}

func TestRampNeverFallsAndStaysBetweenATenthAndAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weight := rapid.IntRange(1, MaxTotalWeight/RampUnit).Draw(t, "weight")
		full := time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "full"))
		earlier := time.Duration(rapid.Int64().Draw(t, "earlier"))
		later := time.Duration(rapid.Int64Range(int64(earlier), math.MaxInt64).Draw(t, "later"))
		before, after := Ramp(weight, earlier, full), Ramp(weight, later, full)
		require.LessOrEqual(t, before, after)
		require.GreaterOrEqual(t, before, weight*RampUnit/10)
		require.LessOrEqual(t, after, weight*RampUnit)
	})
}
