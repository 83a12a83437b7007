package retry

import "slices"

// rules in the order in which they are asked. A rule returns why there is no other attempt, or "".
var rules = []func(*Policy, *Attempt) string{
	final, attemptsUsedUp, unreachable, responseBegun, methodNotRetried, bodyNotReplayable,
}

func final(_ *Policy, a *Attempt) string { return a.Final }

func attemptsUsedUp(p *Policy, a *Attempt) string {
	switch {
	case p.MaxRetries == 0:
		return "retries are switched off"
	case a.Number > p.MaxRetries:
		return "the retries are used up"
	}
	return ""
}

// unreachable: asking the same upstream at once brings the same. Another one may answer.
func unreachable(_ *Policy, a *Attempt) string {
	if a.Unconnected && !a.OtherUpstream {
		return "no other upstream is left to connect to"
	}
	return ""
}

// responseBegun: what has come of a response may have reached the caller. A response that is held back has not.
func responseBegun(_ *Policy, a *Attempt) string {
	if a.Responded && a.Status == 0 {
		return "the response had begun"
	}
	return ""
}

// methodNotRetried: a request of which something was sent may have taken effect.
func methodNotRetried(p *Policy, a *Attempt) string {
	if !a.Sent || a.IdempotencyKey || Safe(a.Method) || slices.Contains(p.Methods, a.Method) {
		return ""
	}
	return "the request may have reached the upstream"
}

func bodyNotReplayable(_ *Policy, a *Attempt) string {
	if !a.Replayable {
		return "the body cannot be sent again"
	}
	return ""
}

// Safe reports whether a method only reads (RFC 9110 section 9.2.1).
func Safe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}
