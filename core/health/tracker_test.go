package health

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestATrackerBeginsHealthyAndUnknown(t *testing.T) {
	tracker := NewTracker(2, 3)
	require.True(t, tracker.Healthy())
	require.False(t, tracker.Known())
	tracker.Report(true)
	require.True(t, tracker.Known())
	tracker = NewTracker(2, 3)
	changed, healthy := tracker.Force(true)
	require.False(t, changed)
	require.True(t, healthy)
	require.True(t, tracker.Known())
}

// In a row, - is a failure and + a success; the verdicts after each are ! for one that has just changed to unhealthy, x
// for one that stays so, ^ for one that has just changed to healthy and o for one that stays so.
func TestVerdicts(t *testing.T) {
	tests := []struct {
		name             string
		rise, fall       int
		reports, verdict string
	}{
		{"falls with the third failure", 2, 3, "---", "oo!"},
		{"a success begins the count anew", 2, 3, "--+--+---", "oooooooo!"},
		{"rises with the second success", 2, 3, "---++", "oo!x^"},
		{"a failure begins the count anew", 2, 3, "---+-+-++", "oo!xxxxx^"},
		{"goes on failing", 2, 3, "-------", "oo!xxxx"},
		{"a change begins the count anew", 2, 3, "---++--+---", "oo!x^ooooo!"},
		{"one is enough", 1, 1, "-+-+", "!^!^"},
		{"a flapping target stays as it is", 2, 2, "-+-+-+", "oooooo"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tracker := NewTracker(test.rise, test.fall)
			verdict := ""
			for _, report := range test.reports {
				changed, healthy := tracker.Report(report == '+')
				require.Equal(t, tracker.Healthy(), healthy)
				switch {
				case changed && healthy:
					verdict += "^"
				case changed:
					verdict += "!"
				case healthy:
					verdict += "o"
				default:
					verdict += "x"
				}
			}
			require.Equal(t, test.verdict, verdict)
		})
	}
}

func TestAForcedVerdictHoldsAtOnceAndBeginsTheCountAnew(t *testing.T) {
	tracker := NewTracker(2, 3)
	tracker.Report(false)
	tracker.Report(false)
	changed, healthy := tracker.Force(true)
	require.False(t, changed)
	require.True(t, healthy)
	changed, _ = tracker.Report(false)
	require.False(t, changed, "the two failures before count no more")

	changed, healthy = tracker.Force(false)
	require.True(t, changed)
	require.False(t, healthy)
	changed, _ = tracker.Force(false)
	require.False(t, changed)
	tracker.Report(true)
	changed, healthy = tracker.Report(true)
	require.True(t, changed)
	require.True(t, healthy)
}

// The model keeps all results since the last change and looks at the end of them.
func TestATrackerAgreesWithItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rise, fall := rapid.IntRange(1, 4).Draw(t, "rise"), rapid.IntRange(1, 4).Draw(t, "fall")
		tracker := NewTracker(rise, fall)
		var results []bool
		healthy := true
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			ok, force := rapid.Bool().Draw(t, "ok"), rapid.IntRange(0, 9).Draw(t, "force") == 0
			before := healthy
			results = append(results, ok)
			threshold := fall
			if !healthy {
				threshold = rise
			}
			last := results[max(0, len(results)-threshold):]
			if force || len(last) == threshold && !slices.Contains(last, healthy) {
				healthy, results = ok, nil
			}
			judge := tracker.Report
			if force {
				judge = tracker.Force
			}
			changed, verdict := judge(ok)
			require.Equal(t, healthy, verdict)
			require.Equal(t, healthy, tracker.Healthy())
			require.Equal(t, before != healthy, changed)
		}
	})
}
