package health

import (
	"math"
	"time"
)

// A probe is at most maxJitter/2 away from its turn, in parts of the interval. A turn that is not further than tooNear
// away when a probe begins is therefore its own, or too soon; the rest of tooNear is for rounding.
const maxJitter, tooNear = 0.5, 0.3

// phase returns where in the interval the turns of a target are, in [0, 1). The multiples of the golden section spread
// any number of targets without knowing how many there will be: each new one falls into one of the largest gaps.
func phase(target int) float64 {
	_, fraction := math.Modf(float64(target) * (math.Phi - 1))
	return fraction
}

// due returns when the probe after the one that began at began is to begin. Both times are counted from the start of
// the prober; random is uniform in [0, 1).
//
// A target's turns are Interval apart for ever, and each probe is scattered by half of Jitter around its turn: two in a
// row are Interval ± Jitter apart, and the phases of the targets do not drift together, as they would if jitter added
// up. The next turn is the first one that is not too near after began. So a probe that came early does not get its own
// turn again, and the second round does not follow on the heels of the first. Turns that a long probe has slept through
// are left out.
func (s Settings) due(target int, began time.Duration, random float64) time.Duration {
	interval, own := float64(s.Interval), phase(target)
	turn := math.Floor(float64(began)/interval+tooNear-own) + 1
	return time.Duration((turn + own + (random-0.5)*s.Jitter) * interval)
}
