package health

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultsAreThoseDocumented(t *testing.T) {
	require.NoError(t, Defaults().Check())
	require.Equal(t, Settings{
		Interval: 10 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3, Jitter: 0.1,
	}, Defaults())
}

func TestSettingsOutOfRangeAreRefused(t *testing.T) {
	tests := []struct {
		name    string
		change  func(s *Settings)
		because string
	}{
		{"no interval", func(s *Settings) { s.Interval = 0 }, "interval must be above 0, it is 0s"},
		{"negative interval", func(s *Settings) { s.Interval = -1 }, "interval"},
		{"no timeout", func(s *Settings) { s.Timeout = 0 }, "timeout must be above 0"},
		{"no rise", func(s *Settings) { s.Rise = 0 }, "rise must be at least 1, it is 0"},
		{"no fall", func(s *Settings) { s.Fall = 0 }, "fall must be at least 1, it is 0"},
		{"negative jitter", func(s *Settings) { s.Jitter = -0.1 }, "jitter must be 0 to 0.5, it is -0.1"},
		{"too much jitter", func(s *Settings) { s.Jitter = 0.51 }, "jitter"},
		{"no number", func(s *Settings) { s.Jitter = math.NaN() }, "jitter"},
		{"range turned round", func(s *Settings) { s.Expected = []StatusRange{{200, 204}, {399, 300}} }, "expected[1]"},
		{"no status", func(s *Settings) { s.Expected = []StatusRange{{0, 299}} }, "expected[0]"},
		{"status too large", func(s *Settings) { s.Expected = []StatusRange{{200, 600}} }, "200 to 600"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			settings := Defaults()
			test.change(&settings)
			require.ErrorContains(t, settings.Check(), test.because)
			prober, err := NewProber(settings, 1, nil, nil)
			require.Equal(t, settings.Check(), err)
			require.Nil(t, prober)
		})
	}
}

func TestExpectedStatuses(t *testing.T) {
	unset := Defaults()
	two := Settings{Expected: []StatusRange{{204, 204}, {401, 403}}}
	tests := []struct {
		settings Settings
		expected []int
		others   []int
	}{
		{unset, []int{200, 204, 304, 399}, []int{0, 199, 400, 500}},
		{two, []int{204, 401, 402, 403}, []int{0, 200, 203, 205, 400, 404}},
	}
	for _, test := range tests {
		for _, status := range test.expected {
			require.True(t, test.settings.Expects(status), "%d", status)
		}
		for _, status := range test.others {
			require.False(t, test.settings.Expects(status), "%d", status)
		}
	}
}
