package health

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Settings say how targets are probed and judged. Defaults returns those to begin with; a zero duration, threshold or
// range is an error and never stands for a default.
type Settings struct {
	// Interval is the time from the beginning of one probe of a target to the beginning of the next, above 0.
	Interval time.Duration

	// Timeout is the time for one probe, above 0. Probes of a target never overlap: one that takes longer than Interval
	// delays the next.
	Timeout time.Duration

	// Rise is how many successes in a row make an unhealthy target healthy, Fall how many failures a healthy one
	// unhealthy. Both are at least 1.
	Rise, Fall int

	// Jitter is the part of Interval by which the time between two probes may be shorter or longer at random, 0 to 0.5
	// (the range of HAProxy's spread-checks). 0 keeps targets apart too, but not the probers of many processes.
	Jitter float64

	// Expected holds the statuses that Expects accepts. None means 200 to 399.
	Expected []StatusRange
}

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct {
	From, To int
}

// Defaults returns an interval of 10 s ± 10 %, a timeout of 2 s, 3 failures to fall and 2 successes to rise.
func Defaults() Settings {
	return Settings{Interval: 10 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3, Jitter: 0.1}
}

// Expects reports whether a probe that was answered with this status succeeded. It is for the caller's probe.
func (s Settings) Expects(status int) bool {
	if len(s.Expected) == 0 {
		return status >= 200 && status <= 399
	}
	return slices.ContainsFunc(s.Expected, func(r StatusRange) bool { return r.From <= status && status <= r.To })
}

// Check returns an error that names the first field that is out of its range.
func (s Settings) Check() error {
	switch {
	case s.Interval <= 0:
		return fmt.Errorf("health: interval must be above 0, it is %s", s.Interval)
	case s.Timeout <= 0:
		return fmt.Errorf("health: timeout must be above 0, it is %s", s.Timeout)
	case s.Rise < 1:
		return fmt.Errorf("health: rise must be at least 1, it is %d", s.Rise)
	case s.Fall < 1:
		return fmt.Errorf("health: fall must be at least 1, it is %d", s.Fall)
	case !(s.Jitter >= 0 && s.Jitter <= maxJitter): // not the other way round: NaN
		return fmt.Errorf("health: jitter must be 0 to %g, it is %g", maxJitter, s.Jitter)
	}
	for i, r := range s.Expected {
		if r.From < 100 || r.From > r.To || r.To > 599 {
			return fmt.Errorf("health: expected[%d] must be a range within 100 to 599, it is %d to %d", i, r.From, r.To)
		}
	}
	return nil
}

// ErrStopped is returned by RunNow when the prober has been stopped, before or meanwhile.
var ErrStopped = errors.New("health: the prober is stopped")
