package balance

import "time"

// RampUnit is what a weight of 1 is in the unit of Ramp.
const RampUnit = 100

// Ramp returns the weight of a member that has been usable since some time and is to reach its full weight after full:
// weight * max(10 %, since/full) in hundredths, so that all members of a snapshot must be given through it. It never
// falls as since grows. There is no ramp if full is 0 or less. A weight must be at most MaxTotalWeight / RampUnit.
//
// A member that has just started has cold caches and empty pools; its whole share at once can take it down again. The
// 10 % make sure that it gets any requests. Source: Envoy's slow start with aggression 1.0.
func Ramp(weight int, since, full time.Duration) int {
	if full <= 0 || since >= full {
		return weight * RampUnit
	}
	// Multiplied first: 29/100 of 100 must not become 28 by rounding.
	ramped := int(float64(weight*RampUnit) * float64(since) / float64(full))
	return max(ramped, weight*RampUnit/10)
}
