package health

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPhasesKeepTargetsApart(t *testing.T) {
	for n := 2; n <= 200; n++ {
		phases := make([]float64, n)
		for target := range phases {
			phases[target] = phase(target)
		}
		slices.Sort(phases)
		phases = append(phases, phases[0]+1)
		for i := range n {
			// By the three-gap theorem the smallest gap is above 0.38/n.
			require.Greater(t, phases[i+1]-phases[i], 0.38/float64(n), "%d targets", n)
		}
	}
}

func TestProbesAreAnIntervalApartGiveOrTakeTheJitter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		settings := Defaults()
		settings.Interval = time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Hour)).Draw(t, "interval"))
		settings.Jitter = rapid.Float64Range(0, maxJitter).Draw(t, "jitter")
		target := rapid.IntRange(0, 10_000).Draw(t, "target")
		began := time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "added"))
		interval, slack := float64(settings.Interval), float64(settings.Interval)*1e-6
		for i := range 20 {
			next := settings.due(target, began, rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random"))
			gap := float64(next - began)
			if i == 0 { // from any moment to the first turn
				require.GreaterOrEqual(t, gap, interval*(tooNear-settings.Jitter/2)-slack)
				require.LessOrEqual(t, gap, interval*(1+tooNear+settings.Jitter/2)+slack)
			} else {
				require.InDelta(t, interval, gap, interval*settings.Jitter+slack)
			}
			began = next
		}
	})
}

func TestJitterUsesItsWholeRange(t *testing.T) {
	settings := Defaults()
	require.Equal(t, 20*time.Second, settings.due(0, 10*time.Second, 0.5))
	require.Equal(t, 19500*time.Millisecond, settings.due(0, 10*time.Second, 0))
	require.Equal(t, 20250*time.Millisecond, settings.due(0, 10*time.Second, 0.75))
}

func TestTurnsThatWereSleptThroughAreLeftOut(t *testing.T) {
	settings := Defaults()
	require.Equal(t, 80*time.Second, settings.due(0, 75*time.Second, 0.5))
	require.Equal(t, 90*time.Second, settings.due(0, 78*time.Second, 0.5), "80 s is too near")
}
