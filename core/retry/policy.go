package retry

import "time"

// Policy says what is retried.
type Policy struct {
	// MaxRetries is how many attempts may follow the first.
	MaxRetries int
	// Statuses are responses that count as failures; empty: none.
	Statuses []int
	// Methods may be retried besides GET, HEAD, OPTIONS and TRACE: PUT and DELETE, by the caller's wish.
	Methods []string
	// BaseDelay and MaxDelay bound the pause before a retry: at random up to BaseDelay, twice that before the next one, and
	// so on up to MaxDelay.
	BaseDelay, MaxDelay time.Duration
	// MaxRetryAfter is the longest Retry-After that is waited for.
	MaxRetryAfter time.Duration
}

// Attempt is what is known of an attempt that gave no response, or one that is held back.
type Attempt struct {
	Method         string
	IdempotencyKey bool // the request has one, and the policy of the caller honours it
	Replayable     bool // the body can be sent once more

	Sent        bool // some byte of the request was written
	Responded   bool // some byte of a response came
	Unconnected bool // there was no connection to be had

	// Final is why the call is over, whatever the rules say: its caller has left, a certificate was refused. Empty: it is not.
	Final string

	Status        int // of a response that is held back; zero: there was none
	RetryAfter    time.Duration
	HasRetryAfter bool

	Number        int  // attempts made so far, from 1
	OtherUpstream bool // the next attempt could go to another upstream
}

// Verdict is the decision.
type Verdict struct {
	Again bool
	Delay time.Duration
	Why   string // the rule that decided
}

// Judge decides about an attempt. left is the time until the deadline, random yields numbers from 0 to 1. When the verdict
// is to go on, one retry of the budget has been taken, to be given back with EndRetry.
func (p *Policy) Judge(a *Attempt, left time.Duration, budget *Budget, random func() float64) Verdict {
	for _, rule := range rules {
		if why := rule(p, a); why != "" {
			return Verdict{Why: why}
		}
	}
	delay, why := p.delay(a, random)
	switch {
	case why != "":
		return Verdict{Why: why}
	case delay >= left:
		return Verdict{Why: "the deadline is too near"}
	case !budget.TryRetry():
		return Verdict{Why: "the retry budget is spent"}
	}
	return Verdict{Again: true, Delay: delay, Why: reason(a)}
}

// HoldsBack reports whether a response with this status may be held back for another attempt.
func (p *Policy) HoldsBack(status int) bool {
	for _, s := range p.Statuses {
		if s == status {
			return true
		}
	}
	return false
}

// delay is the pause before the next attempt, or why it would be too long.
func (p *Policy) delay(a *Attempt, random func() float64) (time.Duration, string) {
	if a.HasRetryAfter {
		if a.RetryAfter > p.MaxRetryAfter {
			return 0, "the upstream asks to wait too long"
		}
		// At least as long as it asks, and not all at once.
		return a.RetryAfter + time.Duration(random()*float64(a.RetryAfter)/2), ""
	}
	if !a.Sent && a.OtherUpstream {
		return 0, "" // nobody is burdened by trying the next one at once
	}
	limit := p.BaseDelay
	for range a.Number - 1 {
		if limit *= 2; limit >= p.MaxDelay {
			break
		}
	}
	return time.Duration(random() * float64(min(limit, p.MaxDelay))), ""
}

func reason(a *Attempt) string {
	switch {
	case a.Status != 0:
		return "the status is one that is retried"
	case !a.Sent:
		return "nothing was sent"
	}
	return "the method may be sent again"
}
